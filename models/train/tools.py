"""Generators of conversations with tools: known kinds of tool, and invented ones with random names and parameters."""

import json

from words import *
from chat import user, bot, qa, small_talk, fill, article, copying, arithmetic

# --------------------------------------------------------------------------------------------- parameters and values


def style_name(rng, words, style=None):
    """One identifier from several words."""
    style = style or rng.choice(["snake"] * 6 + ["camel"] * 2 + ["pascal", "kebab"])
    if style == "camel":
        return words[0].lower() + "".join(w.capitalize() for w in words[1:])
    if style == "pascal":
        return "".join(w.capitalize() for w in words)
    return ("-" if style == "kebab" else "_").join(w.lower() for w in words)


class Param:
    """A parameter: its schema, a way to draw values, and how the user says a value."""

    def __init__(self, name, schema, draw, say=None, required=True):
        self.name, self.schema, self.draw, self.required = name, schema, draw, required
        self.say = say or plain


def plain(v):
    if isinstance(v, bool):
        return "true" if v else "false"
    if isinstance(v, list):
        return plain(v[0]) if len(v) == 1 else ", ".join(plain(x) for x in v[:-1]) + " and " + plain(v[-1])
    if isinstance(v, dict):
        return ", ".join(f"{k} {plain(x)}" for k, x in v.items())
    return str(v)


def p_str(name, draw, desc=None, **kw):
    return Param(name, {"type": "string", **({"description": desc} if desc else {})}, draw, **kw)


def p_int(name, draw=integer, **kw):
    return Param(name, {"type": "integer"}, draw, **kw)


def p_num(name, draw=number, **kw):
    return Param(name, {"type": "number"}, draw, **kw)


def p_enum(name, values, **kw):
    return Param(name, {"type": "string", "enum": list(values)}, lambda rng: rng.choice(values), **kw)


def p_bool(name, yes="true", no="false", **kw):
    return Param(name, {"type": "boolean"}, lambda rng: rng.random() < 0.5, say=lambda v: yes if v else no, **kw)


def p_list(name, draw, lo=2, hi=4, item="string", **kw):
    return Param(name, {"type": "array", "items": {"type": item}}, lambda rng: [draw(rng) for _ in range(rng.randint(lo, hi))], **kw)


def p_obj(name, params, **kw):
    schema = {"type": "object", "properties": {p.name: p.schema for p in params}}
    return Param(name, schema, lambda rng: {p.name: p.draw(rng) for p in params}, **kw)


class Tool:
    """A tool; `says` are ways to ask for a call, `<slots>` are parameter names of `roles`; `answers` read its result."""

    def __init__(self, name, desc, params, says=(), bits=(), result=None, answers=()):
        self.name, self.desc, self.params = name, desc, params
        self.says, self.bits, self.result, self.answers = says, bits, result, answers

    def schema(self, rng):
        p = {"type": "object", "properties": {x.name: x.schema for x in self.params}}
        required = [x.name for x in self.params if x.required]
        if required or rng.random() < 0.3:
            p["required"] = required
        r = rng.random()
        if r < 0.06:
            p["additionalProperties"] = False
        elif r < 0.10:
            p = {"$schema": "http://json-schema.org/draft-07/schema#", **p}
        elif r < 0.14:
            p = {"title": self.name, **p}
        f = {"name": self.name, "description": self.desc, "parameters": p}
        if not self.desc:
            del f["description"]
        return {"type": "function", "function": f}

    def args(self, rng, say=None):
        """Draws arguments: all required ones and some optional ones (those that `say` mentions, if it is given)."""
        if say is not None:
            return {x.name: x.draw(rng) for x in self.params if f"<{x.name}>" in say}
        return {x.name: x.draw(rng) for x in self.params if x.required or rng.random() < 0.5}

    def said(self, args):
        return {x.name: x.say(args[x.name]) for x in self.params if x.name in args}


# ----------------------------------------------------------------------------------------------- tools of known kinds

CONDITIONS = "sunny cloudy rainy windy snowy foggy stormy clear".split()


def known_tools():
    """kind -> maker(rng) of a Tool.  Names, descriptions and parameter names vary."""
    k = {}

    def weather(rng):
        c = rng.choice(["city", "location", "place", "city"])
        name = rng.choice(["get_weather", "weather", "getWeather", "get_current_weather", "current_weather", "weather_lookup", "WEATHER___get", "fetch_weather", "check_weather"])
        ps = [p_str(c, city, rng.choice([None, "The city", "Name of the city"]))]
        says = [f"{{What is|What's|How is|Tell me|Please tell me|Check|I need to know}} the weather {{like |}}in <{c}>{{?|}}", f"{{How is the weather in|What is it like outside in|Is it raining in|Is it warm in|Is it sunny in|How cold is it in|Get the weather for|Weather in|Do I need an umbrella in}} <{c}>?",
                f"What is the weather in <{c}> {{today|now|right now|like today}}?"]
        if rng.random() < 0.3:
            ps.append(p_enum("unit", ["celsius", "fahrenheit"], required=False))
            says += [f"What is the weather in <{c}> in <unit>?", f"How warm is it in <{c}>, in <unit>?"]
        def res(rng, a):
            t, w = rng.randint(-9, 38), rng.choice(CONDITIONS)
            return rng.choice([({"temperature": t, "condition": w}, f"It is {w} in {a[c]}, with {t} degrees."),
                               ({"city": a[c], "weather": w, "temp": t}, f"It is {w} in {a[c]}, with {t} degrees."),
                               (f"{w}, {t} degrees", f"It is {w} in {a[c]}, with {t} degrees."), (f"{w.capitalize()}, {t}°C", f"It is {w} in {a[c]}, with {t} degrees."),
                               ({"condition": w}, f"It is {w} in {a[c]}."), (w, f"It is {w} in {a[c]}."), ({"temperature": t}, f"It is {t} degrees in {a[c]}.")])
        return Tool(name, rng.choice(["Get the weather of a city.", "Current weather for a place", "Returns the weather in a city", "Get the current weather"]), ps, says, [f"the weather in <{c}>"], res)
    k["weather"] = weather

    def calc2(verbs, names, descs, phr, bit, op):
        def make(rng):
            a, b = rng.choice([("a", "b"), ("x", "y"), ("first", "second"), ("left", "right"), ("n1", "n2"), ("num1", "num2"), ("a", "b")])
            mk = rng.choice([p_int, p_num, p_int])
            draw = integer if mk is p_int or rng.random() < 0.5 else number
            ps = [mk(a, draw), mk(b, draw)]
            def res(rng, v):
                r = op(v[a], v[b])
                return rng.choice([r, {"result": r}, {rng.choice(["value", "sum", "answer", "output", "total", word(rng)]): r}, str(r), f"The result is {r}", f"Result: {r}"]), f"The result is {r}."
            sl = lambda s: s.replace("<a>", f"<{a}>").replace("<b>", f"<{b}>") if a != "a" else s
            return Tool(rng.choice(names), rng.choice(descs), ps, [sl(p) for p in phr], [sl(bit)], res)
        return make
    rnd = lambda v: round(v, 4) if isinstance(v, float) else v
    k["add"] = calc2(0, ["add", "sum", "add_numbers", "calculator___add", "math_add", "plus", "addNumbers"], ["Add two numbers.", "Returns the sum of two numbers", "Adds two numbers"],
                     ["{Add|Please add|Can you add} <a> and <b>{.|?|}", "{What is|What's|Calculate|How much is|Compute} <a> {plus|+} <b>{?|}", "{What is the sum of|Sum up|Give me the sum of} <a> and <b>{?|}"], "the sum of <a> and <b>", lambda a, b: rnd(a + b))
    k["subtract"] = calc2(0, ["subtract", "minus", "sub", "calculator___subtract", "math_subtract"], ["Subtract two numbers.", "Returns the difference of two numbers"],
                          ["{What is|Calculate|How much is} <a> {minus|-} <b>{?|}", "{What is|Give me} the difference of <a> and <b>{?|}"], "<a> minus <b>", lambda a, b: rnd(a - b))
    k["multiply"] = calc2(0, ["multiply", "times", "mul", "calculator___multiply", "math_multiply", "product"], ["Multiply two numbers.", "Returns the product of two numbers"],
                          ["{Multiply|Please multiply} <a> {by|and|with} <b>{.|}", "{What is|Calculate|How much is} <a> {times|*|multiplied by} <b>{?|}"], "<a> times <b>", lambda a, b: rnd(a * b))

    def simple(names, descs, mk_params, says, bits, res):
        def make(rng):
            ps = mk_params(rng)
            return Tool(rng.choice(names), rng.choice(descs), ps, says(ps), bits(ps), res(ps) if res else None)
        return make

    def ok(word_done):
        def res(ps):
            def f(rng, a):
                i = rng.randint(1, 9999)
                first = plain(next(iter(a.values()))) if a else ""
                done = fill(rng, word_done, v=first)
                return rng.choice([("ok", done), ({"status": "ok"}, done), ({"success": True}, done), ({"status": "ok", "id": i}, f"{done} The id is {i}."), ("done", done), ({"id": i}, f"{done} The id is {i}.")])
            return f
        return res
    n = lambda ps, s: fill_names(ps, s)
    k["email"] = simple(["send_email", "email_send", "sendEmail", "mail___send", "send_mail"], ["Send an email.", "Sends an email to a person"],
                        lambda r: [p_str(r.choice(["to", "recipient", "address"]), email), p_str("subject", lambda r: phrase(r, 1, 4)), p_str(r.choice(["body", "text", "content"]), lambda r: phrase(r, 2, 7))],
                        lambda ps: n(ps, ['{Send an email to|Email|Write an email to} <0> with {the |}subject "<1>" and {the |}{text|body} "<2>".', '{Send a mail to|Send an email to} <0>. {The subject is|Subject:} <1>. {The text is|Text:} <2>.']),
                        lambda ps: n(ps, ['send an email to <0> with subject "<1>" and text "<2>"']), ok("{The email was sent to <v>.|I sent the email to <v>.}"))
    k["message"] = simple(["send_message", "sendMessage", "chat___post", "post_message", "notify", "send_sms"], ["Send a message to a person.", "Sends a text message"],
                          lambda r: [p_str(r.choice(["to", "recipient", "user", "name"]), person), p_str(r.choice(["message", "text", "body"]), lambda r: phrase(r, 1, 7))],
                          lambda ps: n(ps, ['{Send|Send a message to|Write to|Text} <0>{:| saying| the message} "<1>"{.|}', '{Tell|Let} <0> {know: |}"<1>"', '{Send the message|Send} "<1>" to <0>{.|}']),
                          lambda ps: n(ps, ['send "<1>" to <0>']), ok("{The message was sent to <v>.|I sent the message to <v>.}"))
    def search_res(ps):
        def f(rng, a):
            hits = [phrase(rng, 1, 3) for _ in range(rng.randint(0, 3))]
            if not hits:
                return rng.choice(["[]", {"results": []}, "no results"]), "I found nothing."
            r = rng.choice([hits, {"results": hits}, {"count": len(hits), "items": hits}])
            return r, f"I found: {plain(hits)}."
        return f
    k["search"] = simple(["search", "web_search", "search_web", "find", "searchWeb", "search_documents", "SEARCH___query", "lookup"], ["Search the web.", "Search for a text", "Finds documents"],
                         lambda r: [p_str(r.choice(["query", "q", "text", "keyword"]), lambda r: phrase(r, 1, 4))] + ([p_int(r.choice(["limit", "max_results", "count"]), lambda r: r.randint(1, 20), required=False)] if r.random() < 0.4 else []),
                         lambda ps: n(ps, ['{Search for|Search the web for|Look up|Find|Please search for|Can you search for} <0>{.|}', '{Search for|Look up|Find} "<0>"{.|}'] + (['{Search for|Find} <0>, at most <1> results.', 'Find <1> results for <0>.'] if len(ps) > 1 else [])),
                         lambda ps: n(ps, ["search for <0>"]), search_res)
    k["timer"] = simple(["set_timer", "start_timer", "timer", "setTimer", "timer___start"], ["Set a timer.", "Starts a timer"],
                        lambda r: [p_int(r.choice(["minutes", "duration_minutes", "duration"]), lambda r: r.randint(1, 90))] + ([p_str("label", lambda r: word(r), required=False)] if r.random() < 0.4 else []),
                        lambda ps: n(ps, ["{Set|Start|Please set|Make} a timer for <0> minutes.", "{Set a <0> minute timer.|Wake me in <0> minutes.|Timer for <0> minutes, please.}"] + (['Set a timer for <0> minutes called "<1>".', "Start a <0> minute timer with the label <1>."] if len(ps) > 1 else [])),
                        lambda ps: n(ps, ["set a timer for <0> minutes"]), ok("{The timer is set for <v> minutes.|I set a timer for <v> minutes.}"))
    k["remind"] = simple(["create_reminder", "add_reminder", "remind", "setReminder"], ["Create a reminder.", "Adds a reminder"],
                         lambda r: [p_str(r.choice(["text", "title", "task"]), lambda r: phrase(r, 1, 5)), p_str(r.choice(["time", "at", "when"]), clock)],
                         lambda ps: n(ps, ["{Remind me at <1> to|Remind me at <1>:|At <1>, remind me to} <0>{.|}", 'Create a reminder "<0>" at <1>.']),
                         lambda ps: n(ps, ["remind me at <1> to <0>"]), ok("I will remind you: <v>."))
    k["task"] = simple(["create_task", "add_task", "todo___add", "addTodo", "new_task"], ["Create a task.", "Add a task to the list"],
                       lambda r: [p_str(r.choice(["title", "name", "task"]), lambda r: phrase(r, 1, 4))] + ([p_enum("priority", ["low", "medium", "high"], required=False)] if r.random() < 0.6 else []),
                       lambda ps: n(ps, ['{Create|Add|Make} a task {called|named} "<0>".', '{Add|Put} "<0>" {to my tasks.|to my list.|to the task list.}'] + (["{Create|Add|Make} a <1> priority task called <0>.", 'Add the task "<0>" with <1> priority.'] if len(ps) > 1 else [])),
                       lambda ps: n(ps, ['add a task "<0>"']), ok('The task "<v>" was {created|added}.'))
    k["stock"] = simple(["get_stock_price", "stock_price", "getStockPrice", "stocks___quote"], ["Get the price of a stock.", "Returns a stock price"],
                        lambda r: [p_str(r.choice(["symbol", "ticker", "stock"]), lambda r: "".join(r.choice("ABCDEFGHIJKLMNOPQRSTUVWXYZ") for _ in range(r.randint(3, 4))))],
                        lambda ps: n(ps, ["{What is|Get|Tell me} the {stock price|price} of <0>{?|}", "{How much is a share of|What does a share of} <0>{?| cost?}", "How is <0> doing today?"]),
                        lambda ps: n(ps, ["the stock price of <0>"]), lambda ps: lambda r, a: (lambda v: (r.choice([{"price": v}, v, {"symbol": a[ps[0].name], "price": v}]), f"The price of {a[ps[0].name]} is {v}."))(round(r.uniform(1, 900), 2)))
    langs = "German French Spanish Italian Japanese English Russian Chinese Korean Dutch".split()
    k["translate"] = simple(["translate", "translate_text", "translator___run"], ["Translate a text.", "Translates text into a language"],
                            lambda r: [p_str("text", lambda r: phrase(r, 1, 4)), p_str(r.choice(["target_language", "language", "to", "target"]), lambda r: r.choice(langs))],
                            lambda ps: n(ps, ['{Translate|Please translate} "<0>" {to|into} <1>.', "{Translate|Please translate} <0> into <1>.", 'How do you say "<0>" in <1>?', "What is <0> in <1>?"]),
                            lambda ps: n(ps, ['translate "<0>" into <1>']), lambda ps: lambda r, a: (lambda t: (r.choice([t, {"translation": t}, {"text": t}]), f'In {a[ps[1].name]}, it is "{t}".'))(phrase(r, 1, 3)))
    k["currency"] = simple(["convert_currency", "currency___convert", "exchange", "convertMoney"], ["Convert money.", "Converts an amount between currencies"],
                           lambda r: [p_num("amount"), p_str(r.choice(["from", "from_currency", "source"]), lambda r: r.choice("USD EUR JPY GBP CHF CAD AUD".split())), p_str(r.choice(["to", "to_currency", "target"]), lambda r: r.choice("USD EUR JPY GBP CHF CAD AUD".split()))],
                           lambda ps: n(ps, ["{Convert|Change|Please convert} <0> <1> {to|into} <2>.", "{How much is|How much are|What is} <0> <1> in <2>?"]),
                           lambda ps: n(ps, ["convert <0> <1> to <2>"]), lambda ps: lambda r, a: (lambda v: (r.choice([v, {"result": v}, {"amount": v}]), f"{a[ps[0].name]} {a[ps[1].name]} is {v} {a[ps[2].name]}."))(round(r.uniform(1, 9000), 2)))
    k["time"] = simple(["get_time", "current_time", "getTime", "clock___now", "get_local_time"], ["Get the time in a city.", "Returns the local time"],
                       lambda r: [p_str(r.choice(["city", "timezone", "location"]), city)],
                       lambda ps: n(ps, ["{What time is it in|What is the time in|Tell me the time in|Current time in} <0>{?|}", "How late is it in <0>?"]),
                       lambda ps: n(ps, ["the time in <0>"]), lambda ps: lambda r, a: (lambda v: (r.choice([v, {"time": v}]), f"It is {v} in {a[ps[0].name]}."))(clock(r)))
    k["light"] = simple(["set_light", "switch_light", "light___set", "toggle_light", "setLight"], ["Switch a light on or off.", "Controls a light"],
                        lambda r: [p_str(r.choice(["room", "location", "name"]), lambda r: r.choice(["kitchen", "bedroom", "garage", "hall", "office", "garden", "bathroom", word(r)])), p_bool(r.choice(["on", "enabled", "state"]), "on", "off")],
                        lambda ps: n(ps, ["{Turn|Switch} <1> the light in the <0>.", "{Turn|Switch} the <0> light <1>.", "{Turn|Switch|Please turn} the light in the <0> <1>."]),
                        lambda ps: n(ps, ["turn <1> the light in the <0>"]), ok("{Done. The light in the <v> is switched.|The light in the <v> is switched.}"))
    k["heat"] = simple(["set_temperature", "thermostat___set", "heating_set", "setTemperature"], ["Set the temperature of a room."],
                       lambda r: [p_str("room", lambda r: r.choice(["kitchen", "bedroom", "office", "hall", word(r)])), p_num(r.choice(["degrees", "temperature", "value"]), lambda r: r.choice([r.randint(15, 28), r.randint(15, 27) + 0.5]))],
                       lambda ps: n(ps, ["{Set|Heat|Please set} the <0> to <1> degrees.", "{Make it|I want} <1> degrees in the <0>."]), lambda ps: n(ps, ["set the <0> to <1> degrees"]), ok("{Done. The <v> is set.|I set the temperature in the <v>.}"))
    k["read"] = simple(["read_file", "file___read", "readFile", "cat", "open_file"], ["Read a file.", "Returns the content of a file"],
                       lambda r: [p_str(r.choice(["path", "file", "filename"]), path)],
                       lambda ps: n(ps, ["{Read|Open|Show me|Please read|Print} {the file |}<0>{.|}", "{What is in|What does} <0>{?| say?| contain?}"]),
                       lambda ps: n(ps, ["read <0>"]), lambda ps: lambda r, a: (lambda t: (r.choice([t, {"content": t}]), f'The file {a[ps[0].name]} says: {t}'))(phrase(r, 2, 8)))
    k["write"] = simple(["write_file", "file___write", "writeFile", "save_file"], ["Write a file.", "Writes text to a file"],
                        lambda r: [p_str(r.choice(["path", "file", "filename"]), path), p_str(r.choice(["content", "text", "data"]), lambda r: phrase(r, 1, 6))],
                        lambda ps: n(ps, ['{Write|Save|Put} "<1>" {to|into} {the file |}<0>{.|}', "{Create|Write|Make} the file <0> with {the |}{content|text} <1>."]),
                        lambda ps: n(ps, ['write "<1>" to <0>']), ok("I wrote the file <v>."))
    cmds = ["ls", "ls -l", "date", "uptime", "whoami", "pwd", "df -h", "ps aux", "echo hello", "uname -a", "free -m", "hostname"]
    k["command"] = simple(["run_command", "COMMAND", "COMMAND___run", "shell", "execute", "exec_command"], ["Run a shell command.", "Executes a command"],
                          lambda r: [p_str(r.choice(["command", "cmd"]), lambda r: r.choice(cmds + [word(r) + " " + r.choice(["-v", "--help", "-a", path(r)]), "echo " + phrase(r, 1, 3), "cat " + path(r)]))],
                          lambda ps: n(ps, ["{Run|Execute|Please run|Run the command|Call} <0>{|}", '{Run|Execute|Run the command|Execute the command} "<0>"{.|}', "{Run|Execute} `<0>`{.| for me.}"]),
                          lambda ps: n(ps, ['run "<0>"']), lambda ps: lambda r, a: (lambda t: (r.choice([t, {"stdout": t}, {"exit_code": 0, "stdout": t}]), f"The command printed: {t}"))(phrase(r, 1, 5)))
    k["http"] = simple(["http_request", "HTTP_REQUEST", "HTTP_REQUEST___run", "fetch_url", "fetch"], ["Send an HTTP request.", "Fetch a URL"],
                       lambda r: [p_str("url", url)] + ([p_enum("method", ["GET", "POST", "PUT", "DELETE"])] if r.random() < 0.6 else []),
                       lambda ps: n(ps, ["{Send a <1> request to|Make a <1> request to|<1>} <0>"] if len(ps) > 1 else ["{Fetch|Get|Load|Download|Open} <0>", "{What is at|Get the page} <0>"]),
                       lambda ps: n(ps, ["send a <1> request to <0>"] if len(ps) > 1 else ["fetch <0>"]), lambda ps: lambda r, a: (lambda s, t: r.choice([({"status": s, "body": t}, f"The server answered {s}: {t}"), (t, f"The server answered: {t}")]))(r.choice([200, 200, 201, 204]), phrase(r, 1, 5)))
    k["user"] = simple(["create_user", "add_user", "users___create", "createUser", "register_user"], ["Create a user.", "Adds a user account"],
                       lambda r: [p_str(r.choice(["name", "username"]), person), p_int("age", lambda r: r.randint(5, 95))] + ([p_bool("admin", "an admin", "no admin")] if r.random() < 0.4 else []),
                       lambda ps: n(ps, ["{Create|Add|Register} {a user|the user|a new user} {called |named |}<0>, age <1>, <2>.", "{Create|Add} user <0>, <1> years old, <2>."] if len(ps) > 2 else ["{Create|Add|Register} {a user|the user|a new user} {called|named} <0>, age <1>.", "{Create|Add} <0>, who is <1> years old{.|, as a user.}"]),
                       lambda ps: n(ps, ["create user <0>, age <1>" + (", <2>" if len(ps) > 2 else "")]), ok("The user <v> was {created|added}."))
    k["getid"] = simple(["get_user", "get_order", "find_customer", "order___get", "get_invoice", "getJobStatus", "get_job_status", "job_status", "get_account"], ["Get a record by id.", "Look up by id", "Returns one record"],
                        lambda r: [p_str(r.choice(["id", "user_id", "order_id", "job_id"]), code) if r.random() < 0.5 else p_int(r.choice(["id", "number", "order_id", "job_id"]))],
                        lambda ps: n(ps, ["{Get|Show me|Look up|Show|Find|What is} {the |}{record|entry|number|id|item} <0>{.|}", "{What is the status of|Tell me about|Check|Look up} <0>{?|.}"]),
                        lambda ps: n(ps, ["look up <0>"]), generic_result)
    k["delete"] = simple(["delete_item", "remove_item", "delete_file", "item___delete", "deleteRecord", "cancel_job"], ["Delete something by id.", "Removes an entry"],
                         lambda r: [p_str(r.choice(["id", "name", "item"]), code)],
                         lambda ps: n(ps, ["{Delete|Remove|Please delete|Erase|Cancel} {the item |}<0>{.|}"]), lambda ps: n(ps, ["delete <0>"]), ok("{<v> was deleted.|I deleted <v>.}"))
    k["dice"] = simple(["roll_dice", "dice___roll", "rollDice"], ["Roll dice."], lambda r: [p_int("sides", lambda r: r.choice([4, 6, 8, 10, 12, 20, 100]))] + ([p_int("count", lambda r: r.randint(1, 9))] if r.random() < 0.5 else []),
                       lambda ps: n(ps, ["Roll <1> dice with <0> sides.", "{Throw|Roll} <1> dice, each with <0> sides."] if len(ps) > 1 else ["{Roll|Throw} a die with <0> sides.", "Roll a <0>-sided die."]),
                       lambda ps: n(ps, ["roll <1> dice with <0> sides"] if len(ps) > 1 else ["roll a <0>-sided die"]), lambda ps: lambda r, a: (lambda v: (r.choice([v, {"result": v}, {"total": v}]), f"You rolled {v}."))(r.randint(1, 60)))
    k["echo"] = simple(["echo", "echo_text", "repeat", "reverse", "uppercase", "count_words", "reverse_string", "text___echo", "upper"], ["Echo a text.", "Works on a text", "Returns the text"],
                       lambda r: [p_str(r.choice(["text", "message", "input", "string"]), lambda r: phrase(r, 1, 6))],
                       lambda ps: n(ps, ['{Use the tool on|Process|Call the tool with|Echo|Use the tool with} "<0>"{.|}', "{Echo|Process} <0>{.|}"]), lambda ps: n(ps, ['echo "<0>"']),
                       lambda ps: lambda r, a: (lambda t: (r.choice([t, {"text": t}, {"result": t}]), f"The tool returned: {t}"))(r.choice([a[ps[0].name], phrase(r, 1, 3)])))
    k["meeting"] = simple(["schedule_meeting", "create_event", "calendar___add", "addEvent"], ["Schedule a meeting.", "Adds an event to the calendar"],
                          lambda r: [p_str("title", lambda r: phrase(r, 1, 3)), p_str("date", date)] + ([p_list(r.choice(["attendees", "people", "guests"]), person, 1, 3)] if r.random() < 0.6 else []),
                          lambda ps: n(ps, ["{Schedule|Plan|Create} a meeting called <0> on <1> with <2>.", '{Plan|Schedule} "<0>" on <1> with <2>.'] if len(ps) > 2 else ["{Schedule|Plan|Create} a meeting called <0> on <1>.", 'Put "<0>" in my calendar on <1>.']),
                          lambda ps: n(ps, ['plan "<0>" on <1>' + (" with <2>" if len(ps) > 2 else "")]), ok('"<v>" is {planned|in the calendar}.'))
    k["ship"] = simple(["ship_package", "create_order", "order___create", "deliver"], ["Send an order to an address."],
                       lambda r: [p_str("item", lambda r: phrase(r, 1, 2)), p_int("quantity", lambda r: r.randint(1, 40)), p_obj("address", [p_str("street", lambda r: pseudo(r, 2).capitalize() + " Street " + str(r.randint(1, 99))), p_str("city", city)], say=lambda v: v["street"] + " in " + v["city"])],
                       lambda ps: n(ps, ["{Send|Ship|Deliver|Order} <1> <0> to <2>."]), lambda ps: n(ps, ["send <1> <0> to <2>"]), ok("The order for <v> was {placed|sent}."))
    k["music"] = simple(["play_music", "play_song", "music___play", "playSong"], ["Play a song."], lambda r: [p_str(r.choice(["song", "title"]), lambda r: phrase(r, 1, 3)), p_str("artist", person)],
                        lambda ps: n(ps, ["{Play|Please play|I want to hear} <0> by <1>.", 'Play "<0>" by <1>{.|}']), lambda ps: n(ps, ["play <0> by <1>"]), ok("Now playing <v>."))
    k["route"] = simple(["get_distance", "route", "get_route", "distance___between"], ["Distance between two places."], lambda r: [p_str(*r.choice([("from", city), ("origin", city), ("start", city)])), p_str(r.choice(["to", "destination", "end"]), city)],
                        lambda ps: n(ps, ["{How far is it from <0> to <1>?|What is the distance from <0> to <1>?|How do I get from <0> to <1>?|Find a route from <0> to <1>.}"]), lambda ps: n(ps, ["the distance from <0> to <1>"]),
                        lambda ps: lambda r, a: (lambda v: (r.choice([v, {"km": v}, {"distance": v}, f"{v} km"]), f"It is {v} km from {a[ps[0].name]} to {a[ps[1].name]}."))(r.randint(5, 9000)))
    k["nothing"] = simple(["get_status", "list_workers", "ping", "list_jobs", "get_version", "health_check", "server___status", "list_files", "now", "get_date"], ["Returns the state of the server.", "No arguments.", "Get the status"],
                          lambda r: [], lambda ps: ["{What is|Check|Show me|Tell me|Get} the {server |}status{?|.}", "{Is the server up?|Call the tool.|Please use your tool.|Use the tool.}"], lambda ps: ["the server status"], generic_result)
    return k


def fill_names(ps, templates):
    """Puts parameter names in place of <0>, <1>, ..."""
    out = []
    for t in templates:
        for i, p in enumerate(ps):
            t = t.replace(f"<{i}>", f"<{p.name}>")
        out.append(t)
    return out


def random_value(rng):
    r = rng.random()
    return word(rng) if r < 0.35 else integer(rng) if r < 0.6 else number(rng) if r < 0.7 else code(rng) if r < 0.85 else phrase(rng, 2, 4)


def generic_result(ps):
    """A result with random fields and the sentence that reads it out."""
    def f(rng, a):
        r = rng.random()
        if r < 0.25:
            v = random_value(rng)
            return rng.choice([v, {"result": v}, {"value": v}]), f"The result is {v}."
        keys = rng.sample(PARAMS, rng.randint(1, 3))
        d = {key: random_value(rng) for key in keys}
        if r < 0.35:
            d[keys[0]] = rng.random() < 0.5
        text = plain([f"the {key.replace('_', ' ')} is {plain(v)}" for key, v in d.items()])
        return d, text[0].upper() + text[1:] + "."
    return f


KNOWN = known_tools()


def invented_param(rng, used):
    while True:
        name = rng.choice(PARAMS) if rng.random() < 0.6 else word(rng) if rng.random() < 0.6 else style_name(rng, [word(rng), rng.choice(PARAMS)], "snake")
        name = name.lower()
        if name not in used and name.isascii():
            break
    used.add(name)
    req = rng.random() < 0.75
    r = rng.random()
    if r < 0.36:
        draw = rng.choice([word, lambda r: phrase(r, 1, 4), code, person, city, lambda r: cased(r, word(r))])
        return p_str(name, draw, rng.choice([None, None, f"The {name}"]), required=req)
    if r < 0.58:
        return p_int(name, required=req)
    if r < 0.68:
        return p_num(name, required=req)
    if r < 0.78:
        return p_bool(name, required=req)
    if r < 0.91:
        vals = rng.choice(ENUM_SETS) if rng.random() < 0.6 else [word(rng) for _ in range(rng.randint(2, 4))]
        return p_enum(name, list(dict.fromkeys(vals)), required=req)
    if r < 0.96:
        return p_list(name, rng.choice([word, person]), required=req) if rng.random() < 0.7 else p_list(name, integer, item="integer", required=req)
    inner = set()
    return p_obj(name, [p_str(_n(rng, inner), word), rng.choice([p_int, p_num])(_n(rng, inner))], required=req)


def _n(rng, used):
    while True:
        n = rng.choice(PARAMS) if rng.random() < 0.7 else word(rng).lower()
        if n not in used:
            used.add(n)
            return n


def invented(rng):
    """A tool with an invented name.  The user names it, or names its verb and noun."""
    used = set()
    ps = [invented_param(rng, used) for _ in range(rng.choice([0, 1, 1, 2, 2, 2, 3, 3, 4]))]
    r = rng.random()
    if r < 0.5:  # verb and noun: the request can be told from the words
        v, o = rng.choice(VERBS), rng.choice(NOUNS) if rng.random() < 0.8 else word(rng)
        name = style_name(rng, [v, o])
        if rng.random() < 0.15:
            name = f"{style_name(rng, [o])}___{v}"
        desc = fill(rng, "{<V> <o>.|<V> the <o>.|<V>s <o>|A tool to <v> <o>|Use this to <v> <o>|}", V=v.capitalize(), v=v, o=article(o) if rng.random() < 0.3 else o)
        heads = [f"{{{v.capitalize()}|Please {v}|Can you {v}|I want to {v}|Could you {v}|I need you to {v}}} {{the |a |}}{o}"]
        if rng.random() < 0.25:
            heads.append(f"{{Use|Call|Run}} {name}")
    else:
        ws = [word(rng) for _ in range(rng.choice([1, 1, 2, 2, 3]))]
        name = style_name(rng, ws)
        if rng.random() < 0.25:
            name = f"{name}___{rng.choice(['run', 'call', 'exec', word(rng), rng.choice(VERBS)])}"
        desc = rng.choice(["", phrase(rng, 2, 5).capitalize() + ".", f"Runs {ws[0]}", f"The {ws[-1]} tool"])
        heads = [f"{{Call|Use|Run|Please call|Please use|Invoke|Execute|I need|Can you call|Now call}} {{the tool |the function |}}{name}", f"{{Use the|Run the|Call the}} {name} {{tool|function}}"]
    t = Tool(name, desc, ps, result=generic_result(ps))
    t.heads = heads
    return t


def say_invented(rng, t, args, low=False):
    """The user's request for a call of an invented tool with these arguments."""
    head = fill(rng, rng.choice(t.heads))
    said = t.said(args)
    form = rng.randrange(6)
    q = lambda p: f'"{said[p]}"' if isinstance(args[p], str) and (rng.random() < 0.35) else said[p]
    parts = []
    for p in said:
        nm = p.replace("_", " ") if rng.random() < 0.3 else p
        if isinstance(args[p], dict):
            parts.append(f"{nm}: {said[p]}")
        else:
            parts.append([f"{nm} {q(p)}", f"{nm}={q(p)}", f"{nm} set to {q(p)}", f"{nm}: {q(p)}", f"{nm} {q(p)}", f"the {nm} {q(p)}"][form])
    if not parts:
        text = head + rng.choice([".", "", " now.", " please."])
    else:
        sep = rng.choice([", ", " and ", ", "])
        body = sep.join(parts) if sep != ", " or rng.random() < 0.6 else (", ".join(parts[:-1]) + (" and " if len(parts) > 1 else "") + parts[-1])
        text = head + rng.choice([" with ", " with ", ": ", ", ", " for ", " using "]) + body + rng.choice([".", "", "."])
    return text[0].lower() + text[1:] if low and not text.startswith(t.name) else text


# ------------------------------------------------------------------------------------------------------ conversations


def make_call(rng, t):
    """(args, request text, short request text for a list of wishes)"""
    if t.says:
        say = fill(rng, rng.choice(t.says))
        args = t.args(rng, say)
        if any(p.required and p.name not in args for p in t.params):
            args = {p.name: p.draw(rng) for p in t.params if p.required}
        bit = rng.choice(t.bits)
        text = fill(rng, say, **t.said(args))
        if rng.random() < 0.06:
            text = text[0].lower() + text[1:]
        return args, text, bit
    args = t.args(rng)
    return args, say_invented(rng, t, args), None


def calls_message(rng, calls, text=None):
    return {"role": "assistant", "content": text or "", "tool_calls": [{"id": f"call_{i}", "type": "function", "function": {"name": t.name, "arguments": a}} for i, (t, a) in enumerate(calls)]}


def dump(r):
    return r if isinstance(r, str) else json.dumps(r, ensure_ascii=False)


def tool_message(content, i=0):
    return {"role": "tool", "content": dump(content), "tool_call_id": f"call_{i}"}


ERRORS = """connection refused|timeout|timed out after 30 seconds|not found|permission denied|invalid argument|internal error|no such
file|service unavailable|unknown worker|rate limit exceeded|out of memory|access denied|bad gateway|network unreachable""".replace("\n", " ").split("|")


def error_result(rng, t):
    e = rng.choice(ERRORS) if rng.random() < 0.8 else phrase(rng, 1, 4)
    r = rng.choice([f"Error: {e}", f"error: {e}", {"error": e}, f"Tool execution failed: {e}", {"status": "error", "message": e}, f"failed: {e}", {"success": False, "error": e}, f"The tool {t.name} failed: {e}"])
    return r, f"Sorry, the tool {t.name} failed: {e}."


def run(rng, t, args):
    r, answer = t.result(rng, args)
    return r, answer


def pick_tool(rng):
    return KNOWN[rng.choice(list(KNOWN))](rng) if rng.random() < 0.48 else invented(rng)


def toolbox(rng, main, more=(0, 0, 1, 1, 1, 2, 2, 3)):
    """The tools offered, with others among them; no name and no known kind twice."""
    n = rng.choice(more)
    others, names = [], {t.name for t in main}
    while len(others) < n:
        t = pick_tool(rng)
        if t.name not in names and not any(t.desc and t.desc == m.desc for m in main):
            names.add(t.name)
            others.append(t)
    box = list(main) + others
    rng.shuffle(box)
    return box


def single(rng, t, close=True):
    args, text, _ = make_call(rng, t)
    msgs = [user(text), calls_message(rng, [(t, args)])]
    if not close:
        return msgs
    r, a = error_result(rng, t) if rng.random() < 0.12 else run(rng, t, args)
    return msgs + [tool_message(r), bot(a)]


def parallel(rng, tools):
    """Several wishes in one message: all calls at once, then all answers."""
    if len(tools) == 1 or rng.random() < 0.45:
        tools = [rng.choice(tools)] * rng.choice([2, 2, 3])
    calls, texts = [], []
    for i, t in enumerate(tools):
        if t.says:
            bit = rng.choice(t.bits)
            args = t.args(rng, bit)
            if any(p.required and p.name not in args for p in t.params):
                args = {p.name: p.draw(rng) for p in t.params if p.required}
            b = fill(rng, bit, **t.said(args))
            if bit.startswith("the ") or not bit[0].isalpha() or bit[0] == "<":
                b = rng.choice(["tell me ", "get ", "give me ", "find out "]) + b if i == 0 or rng.random() < 0.5 or not texts[-1].startswith(("tell", "get", "give", "find", "the")) else b
        else:
            args = t.args(rng)
            b = say_invented(rng, t, args, low=True).rstrip(".")
        if any(args == a and t is u for u, a in calls):
            continue
        calls.append((t, args))
        texts.append(b)
    same = all(t is calls[0][0] for t, _ in calls)
    t0 = calls[0][0]
    if same and len(calls) > 1 and t0.says and len(t0.params) == 1 and t0.bits and rng.random() < 0.7:
        p = t0.params[0]  # one question, several values: the weather in Rome and Oslo
        vals = [a[p.name] for _, a in calls]
        text = fill(rng, rng.choice(t0.says).replace(f"<{p.name}>", "@@"))
        text = text.replace("@@", plain(vals))
    elif rng.random() < 0.25:
        text = rng.choice([". ", ". Then ", ". Also, "]).join(texts)
    else:
        text = texts[0] if len(texts) == 1 else ", ".join(texts[:-1]) + rng.choice([" and ", ", and ", " and also "]) + texts[-1]
    text = (rng.choice(["", "", "", "Please ", "I want you to "]) + text)
    text = text[0].upper() + text[1:] + rng.choice([".", "", "."] if text[-1] not in "?.!" else [""])
    msgs = [user(text), calls_message(rng, calls)]
    answers = []
    for i, (t, a) in enumerate(calls):
        r, ans = error_result(rng, t) if rng.random() < 0.07 else run(rng, t, a)
        msgs.append(tool_message(r, i))
        answers.append(ans)
    return msgs + [bot(" ".join(answers))]


def chain(rng):
    """The second call needs the first one's result.  Returns (tools, messages)."""
    k = rng.randrange(5)
    if k == 0:  # sums
        t1, t2 = KNOWN[rng.choice(["add", "subtract", "multiply"])](rng), KNOWN[rng.choice(["add", "multiply"])](rng)
        while t2.name == t1.name:
            t2 = KNOWN[rng.choice(["add", "multiply"])](rng)
        a, b, c = rng.randint(1, 50), rng.randint(1, 50), rng.randint(2, 20)
        n1, n2 = [p.name for p in t1.params], [p.name for p in t2.params]
        kind1 = "add" if "um" in t1.desc and "duct" not in t1.desc and "iff" not in t1.desc and "ubtr" not in t1.desc and "ultip" not in t1.desc else "subtract" if "iff" in t1.desc or "ubtr" in t1.desc else "multiply"
        kind2 = "multiply" if "ultip" in t2.desc or "duct" in t2.desc else "add"
        first = {"add": f"add {a} and {b}", "subtract": f"calculate {a} minus {b}", "multiply": f"multiply {a} by {b}"}[kind1]
        second = {"add": f"add {c} to the result", "multiply": f"multiply the result by {c}"}[kind2]
        r1 = {"add": a + b, "subtract": a - b, "multiply": a * b}[kind1]
        r2 = {"add": r1 + c, "multiply": r1 * c}[kind2]
        text = fill(rng, "{<f>, then <s>.|<f> and then <s>.|First <f>, then <s>.}", f=first, s=second)
        return [t1, t2], [user(text[0].upper() + text[1:]), calls_message(rng, [(t1, dict(zip(n1, (a, b))))]), tool_message(rng.choice([r1, {"result": r1}, str(r1)])),
                          calls_message(rng, [(t2, dict(zip(n2, (r1, c))))]), tool_message(rng.choice([r2, {"result": r2}, str(r2)])), bot(f"The result is {r2}.")]
    if k == 1:  # where somebody is, then the weather or time there
        t2 = KNOWN[rng.choice(["weather", "time"])](rng)
        key = rng.choice(["name", "person", "user"])
        t1 = Tool(rng.choice(["get_user_city", "find_person", "locate_user", "user___location", "get_home"]), rng.choice(["Where a person lives.", "Find the city of a person."]), [p_str(key, person)])
        who, where = person(rng), city(rng)
        what = "weather" if "eather" in t2.desc else "time"
        text = fill(rng, "{What is the <w> where <p> lives?|What is the <w> in the city of <p>?|Find out where <p> lives and tell me the <w> there.|Tell me the <w> where <p> is.}", w=what, p=who)
        args2 = {t2.params[0].name: where}
        r, a = run(rng, t2, args2)
        return [t1, t2], [user(text), calls_message(rng, [(t1, {key: who})]), tool_message(rng.choice([where, {"city": where}, {key: who, "city": where}])), calls_message(rng, [(t2, args2)]), tool_message(r), bot(a)]
    if k == 2:  # find an id, then use it
        key, idn = rng.choice(["name", "query", "title"]), rng.choice(["id", "item_id", "key"])
        o = rng.choice(NOUNS)
        v = rng.choice("delete open cancel update print archive publish share".split())
        t1 = Tool(style_name(rng, ["find", o]), f"Find the id of {article(o)}.", [p_str(key, word)])
        t2 = Tool(style_name(rng, [v, o]), f"{v.capitalize()} {article(o)} by id.", [p_str(idn, code)])
        nm, i = rng.choice([word, person, lambda r: phrase(r, 1, 2)])(rng), rng.choice([code, integer])(rng)
        if isinstance(i, int):
            t2.params = [p_int(idn)]
        text = fill(rng, "{Find the <o> <n> and <v> it.|<V> the <o> called <n>.|Look for the <o> <n>, then <v> it.}", o=o, n=nm, v=v, V=v.capitalize())
        done = rng.choice(["ok", {"status": "ok"}, {"success": True}, "done"])
        return [t1, t2], [user(text), calls_message(rng, [(t1, {key: nm})]), tool_message({idn: i} if rng.random() < 0.6 else i), calls_message(rng, [(t2, {idn: i})]), tool_message(done), bot(f"Done. I used {t2.name} on {i}.")]
    if k == 3:  # invented tools: call one, then another with its result
        t1, t2 = invented(rng), invented(rng)
        while not t2.params or t2.name == t1.name:
            t2 = invented(rng)
        used = set()
        p = rng.choice([p_str, p_int])(t2.params[0].name, word)
        t2.params = [p]
        a1 = t1.args(rng)
        v = code(rng) if p.schema["type"] == "string" else integer(rng)
        if isinstance(v, str) and rng.random() < 0.5:
            v = word(rng)
        text = say_invented(rng, t1, a1).rstrip(".") + fill(rng, "{, then|. Then|, and then} {call|use|run} <n> with {the result|its result|the result as <p>}.", n=t2.name, p=p.name)
        r2, ans = t2.result(rng, {p.name: v})
        return [t1, t2], [user(text), calls_message(rng, [(t1, a1)]), tool_message(rng.choice([v, {"result": v}, {p.name: v}])), calls_message(rng, [(t2, {p.name: v})]), tool_message(r2), bot(ans)]
    t = pick_tool(rng)  # the tool asks to be called again
    args, text, _ = make_call(rng, t)
    msgs = [user(text), calls_message(rng, [(t, args)]), tool_message(rng.choice(["busy, please try again", {"status": "pending", "message": "please call again"}, "not ready yet, call again", {"error": "busy, try again"}])), calls_message(rng, [(t, args)])]
    r, a = run(rng, t, args)
    return [t], msgs + [tool_message(r), bot(a)]


def missing(rng, t):
    """A required value is missing: the model asks for it, the user gives it."""
    say = f"{{{'|'.join(['Use', 'Call', 'Please use', 'Run'])}}} {t.name}."
    p = [x for x in t.params if x.required][0]
    args = {p.name: p.draw(rng)}
    return [user(fill(rng, say)), bot(f"Which {p.name.replace('_', ' ')} should I use?"), user(p.say(args[p.name])), calls_message(rng, [(t, args)])] + list(_close(rng, t, args))


def _close(rng, t, args):
    r, a = run(rng, t, args)
    return tool_message(r), bot(a)


REFUSALS = "{I have no tool for that.|Sorry, I have no tool for that.}"


def tool_conversation(rng):
    """{"messages", "tools"}: several requests against one toolbox."""
    r = rng.random()
    if r < 0.13:
        main, msgs = chain(rng)
        if rng.random() < 0.25:
            msgs += single(rng, rng.choice([t for t in main if t.result] or [pick_tool(rng)])) if any(t.result for t in main) else []
        return finish(rng, main, msgs)
    main = [pick_tool(rng)]
    if rng.random() < 0.5:
        t = pick_tool(rng)
        if t.name != main[0].name and (not t.desc or t.desc != main[0].desc):
            main.append(t)
    if r < 0.19:
        need = [t for t in main if sum(p.required for p in t.params) == 1]
        if need:
            return finish(rng, main, missing(rng, need[0]))
    msgs = []
    for _ in range(rng.choice([1, 1, 2, 2, 3])):
        r = rng.random()
        if r < 0.52:
            t = rng.choice(main)
            msgs += single(rng, t)
            if t.says and len(t.params) == 1 and rng.random() < 0.3:
                msgs += follow_up(rng, t)
        elif r < 0.75:
            msgs += parallel(rng, main)
        elif r < 0.92:
            msgs += sums(rng) if rng.random() < 0.12 and not any("number" in t.desc for t in main) else qa(*chat_only(rng))
        else:
            msgs += unavailable(rng, main)
    return finish(rng, main, msgs)


def focused_conversation(rng):
    """{"messages", "tools"}: one request of the usual kind against a small toolbox: a call, calls side by side, a call after a
    result, and now and then none."""
    r = rng.random()
    if r < 0.22:
        main, msgs = chain(rng)
        return finish(rng, main, msgs, [0, 0, 1])
    main = [KNOWN[rng.choice(list(KNOWN))](rng) if rng.random() < 0.7 else invented(rng)]
    if rng.random() < 0.6:
        t = KNOWN[rng.choice(list(KNOWN))](rng) if rng.random() < 0.7 else invented(rng)
        if t.name != main[0].name and (not t.desc or t.desc != main[0].desc):
            main.append(t)
    if r < 0.62:
        msgs = single(rng, rng.choice(main))
    elif r < 0.92:
        msgs = parallel(rng, main)
    else:
        msgs = qa(*chat_only(rng))
    return finish(rng, main, msgs, [0, 0, 0, 1])


def follow_up(rng, t):
    """The same tool again, with only a new value said."""
    args = {t.params[0].name: t.params[0].draw(rng)}
    v = t.params[0].say(args[t.params[0].name])
    return [user(fill(rng, "{And|What about|And what about|Now} <v>{?|}", v=v)), calls_message(rng, [(t, args)])] + list(_close(rng, t, args))


def chat_only(rng):
    """Small talk that no tool in the data could be meant for."""
    while True:
        q, a = small_talk(rng) if rng.random() < 0.9 else copying(rng)
        low = q.lower()
        if not any(ch.isdigit() for ch in q) and "weather" not in low and "time" not in low and "date" not in low and "repeat" not in low and "echo" not in low and "sunny?" not in low and "day is" not in low:
            return q, a


def sums(rng):
    """A sum, answered without a tool, as none of the box is made for it."""
    q, a = arithmetic(rng)[:2]
    return [user(q), dict(bot(a), refusal="sum")]


def unavailable(rng, main):
    """A request for a tool of a known kind that is not in the box."""
    kinds = {type(t) and t.desc for t in main}
    for _ in range(20):
        kind = rng.choice([x for x in KNOWN if x not in ("echo", "nothing", "getid", "add", "subtract", "multiply")])
        t = KNOWN[kind](rng)
        if t.desc not in kinds and not any(m.says and m.says[0][:12] == t.says[0][:12] for m in main):
            _, text, _ = make_call(rng, t)
            return [user(text), dict(bot(fill(rng, REFUSALS)), refusal=kind)]
    return []


def finish(rng, main, msgs, more=(0, 0, 1, 1, 1, 2, 2, 3)):
    box = toolbox(rng, main, more)
    refused = {m.get("refusal") for m in msgs} - {None}
    if refused:  # an offered tool must not fit a request that was refused
        box = [t for t in box if t in main]
    for m in msgs:
        m.pop("refusal", None)
    head = []
    if rng.random() < 0.45:
        head = [{"role": "system", "content": fill(rng, "{You are a helpful assistant.|You are a helpful assistant with tools.|Use the tools when they help.|You are an assistant that calls tools.|Answer briefly.|You can call tools.|You are Tiny.}")}]
    if not msgs:
        msgs = qa(*chat_only(rng))
    return {"messages": head + msgs, "tools": [t.schema(rng) for t in box]}

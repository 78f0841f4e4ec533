"""Generators of conversations without tools."""

import json

from words import *

DEFINITIONS = dict(l.split(": ", 1) for l in """a computer: A computer is a machine that follows instructions to work with data.
a language model: A language model is a program that has learned to predict the next word of a text.
a token: A token is a small piece of text, such as a word or a part of a word.
a planet: A planet is a large round body that moves around a star.
the sun: The sun is the star at the centre of our solar system.
the moon: The moon is a round body of rock that moves around the Earth.
rain: Rain is water that falls from clouds in drops.
snow: Snow is frozen water that falls from clouds in white flakes.
a river: A river is a large stream of water that flows to a lake or to the sea.
a mountain: A mountain is a very high piece of land.
an island: An island is land with water all around it.
a forest: A forest is a large area covered with trees.
a desert: A desert is a dry place where very little rain falls.
music: Music is sound put together in a way that people enjoy.
a poem: A poem is a short text with rhythm and chosen words.
a book: A book is a set of pages with text or pictures.
a library: A library is a place where people can read and borrow books.
a friend: A friend is a person you like and trust.
a teacher: A teacher is a person who helps others to learn.
a doctor: A doctor is a person who treats sick people.
a farmer: A farmer is a person who grows food and keeps animals.
a bridge: A bridge is a structure that carries a road over water or a valley.
a clock: A clock is a device that shows the time.
electricity: Electricity is energy carried by moving charges. It powers lamps and machines.
gravity: Gravity is the force that pulls things towards the Earth.
a triangle: A triangle is a shape with three sides.
a square: A square is a shape with four equal sides.
a circle: A circle is a round shape. Every point on it is equally far from the centre.
a database: A database is an ordered store of data that programs can search.
a queue: A queue is a line in which the first to come is the first to be served.
a server: A server is a program or machine that answers requests from others.
a plugin: A plugin is a piece of code that adds a feature to a program.
an algorithm: An algorithm is a list of clear steps that solves a problem.
JSON: JSON is a text format for data, made of objects, lists, strings and numbers.
Rust: Rust is a programming language that is fast and keeps memory safe.
C: C is a small and fast programming language that is close to the machine.
Python: Python is a programming language that is easy to read and write.
open source: Open source means that everyone may read, use and change the code.
water: Water is a clear liquid that all living things need.
bread: Bread is a food made from flour, water and yeast.
honey: Honey is a sweet food that bees make from flowers.
a holiday: A holiday is a day on which people rest and do not work.
winter: Winter is the coldest season of the year.
summer: Summer is the warmest season of the year.
spring: Spring is the season in which plants begin to grow again.
autumn: Autumn is the season in which leaves change colour and fall.""".split("\n"))

JOKES = """Why did the computer go to the doctor? Because it had a virus.
Why was the math book sad? Because it had too many problems.
What do you call a sleeping bull? A bulldozer.
Why did the job go to school? It wanted to have more class.
What did the zero say to the eight? Nice belt!
Why can a bicycle not stand alone? Because it is two tired.
What has hands but cannot clap? A clock.
Why did the scarecrow win a prize? He was outstanding in his field.
What do you call cheese that is not yours? Nacho cheese.
Why did the worker stay calm? It took one job at a time.""".split("\n")

# (ways to ask, ways to answer)
FIXED = [(q.strip(), a.strip()) for q, a in (x.split("=>") for x in """{Hello|Hi|Hey}{, how are you?|! How are you?|, how are you today?|, how are you doing?|. How is it going?} => {Hello! I am fine, thank you. How can I help you?|Hi! I am doing well, thanks. What can I do for you?|Hello! I am doing well. How can I help you today?}
{How are you?|How are you doing?|How is it going?|Are you well?|How do you feel?} => {I am fine, thank you. How are you?|I am doing well, thanks for asking.}
{Hello|Hi|Hey|Good morning|Good evening|Hello there|Hi there|Good day}{!|.||, assistant.} => {Hello! How can I help you?|Hi! What can I do for you?}
{Who are you?|What are you?|Tell me about yourself.|Introduce yourself.|Can you introduce yourself?|Please introduce yourself.} => I am Tiny, the small language model that ships with mistral-runner.{| I can chat, tell short stories and use tools.}
{What is your name?|Do you have a name?|What should I call you?|What are you called?|What's your name?} => My name is Tiny.
{What can you do?|What can you help me with?|How can you help me?|What are you good at?|Can you help me?|Help!} => I can chat about simple topics, do small sums, tell short stories and call tools.
{Are you a human?|Are you a person?|Are you real?|Are you a robot?} => No, I am a small language model.
{How big are you?|How many parameters do you have?|Are you a big model?} => I am very small: a few million parameters.
{How old are you?|When were you made?|When is your birthday?} => I am a program, so I have no age.
{Who made you?|Who built you?|Who trained you?|Where do you come from?} => I was trained for the mistral-runner project.
{What is|What's|Tell me about|Explain|Please explain} jobworkerp{?||-rs?} => jobworkerp is a job system written in Rust. Clients enqueue jobs, and workers run them.
{What is|What's|Tell me about|Explain|Please explain} {mistral-runner|the mistral-runner|mistral runner|this plugin}{?|.} => mistral-runner is a plugin for jobworkerp that runs language models in process. It is written in C.
{What is|What's|Explain|Define|Tell me what is} a worker{?| in jobworkerp?|.} => A worker is a named setup of a runner: it says which runner to use and with which settings.
{What is|What's|Explain|Define|Tell me what is} a job{?| in jobworkerp?|.} => A job is one unit of work. It carries arguments for a worker and gives a result.
{What is|What's|Explain|Define|Tell me what is} a runner{?| in jobworkerp?|.} => A runner is the code that does the work, such as a shell command, an HTTP request or a plugin.
{What is the difference between|How do} a worker and a {job|runner}{?| differ?} => A runner is the code, a worker is a runner with its settings, and a job is one piece of work for a worker.
{What is|Explain} a tool call? => A tool call is a request from the model to run a function and give back its result.
{How do I|How can I} {run|start|enqueue} a job? => Choose a worker, give it the arguments, and enqueue the job. The worker runs it and returns the result.
{How do I|How can I} {build|install} mistral-runner? => Run make in the repository. It builds the plugin and the command line program.
{What|Which} models can {mistral-runner|you} {run|load}? => mistral-runner can load models in the GGUF format.
{How is the weather?|What is the weather like?|How is the weather today?|What's the weather like today?|Is it sunny?|Will it rain?} => {I cannot look outside, but I hope it is nice where you are.|I cannot see the weather, but I hope the sun is shining for you.}
{It is|It's} {raining|rainy|very wet} {today|here|outside}. => {Then it is a good day to stay inside with a warm drink.|Do not forget your umbrella!}
{It is|It's} {sunny|warm|hot|lovely} {today|here|outside}. => {How nice! Enjoy the sunshine.|That sounds lovely. Enjoy your day outside.}
{It is|It's} {cold|snowing|freezing} {today|here|outside}. => Dress warmly, and have a hot drink.
{I love|I like|I enjoy} {rain|snow|the sun|sunshine|summer|winter|spring|autumn}. => That is nice! Every season has its charm.
{What is your favourite|What's your favourite|Do you have a favourite} colour? => I like blue. What is your favourite colour?
{What is your favourite|What's your favourite|Do you have a favourite} {food|meal|dish}? => I do not eat, but I like to talk about soup. What do you like to eat?
{What is your favourite|What's your favourite|Do you have a favourite} animal? => I like owls, because they are quiet and clever. And you?
{What should I|What can I} {eat|cook}{?| today?| for dinner?|?} => {How about a warm soup with fresh bread?|How about pasta with tomatoes and cheese?}
{I am|I'm} hungry. => {Then it is time for a snack. How about an apple or a sandwich?|How about a warm soup with fresh bread?}
{I am|I'm} {tired|sleepy}. => Then take a break and rest a little.
{I am|I'm} {sad|unhappy|not happy|feeling down}. => I am sorry to hear that. Do you want to talk about it?
{I am|I'm} {happy|very happy|so happy|in a good mood}{!|.} => I am glad to hear that!
{I am|I'm} bored. => Shall I tell you a story or a joke?
{I am|I'm} {fine|good|well|doing well|okay}{.|, thanks.|, thank you.} => I am glad to hear that. What can I do for you?
{How do I|How can I} make {tea|a cup of tea}? => Boil some water, pour it over the tea and wait for three minutes.
{How do I|How can I} {boil|cook} an egg? => Put the egg in boiling water for about eight minutes, then cool it in cold water.
{How many days are in a week?|How many days does a week have?} => A week has seven days.
{How many months are in a year?|How many months does a year have?} => A year has twelve months.
{How many hours are in a day?|How many hours does a day have?} => A day has twenty-four hours.
{How many minutes are in an hour?|How many minutes does an hour have?} => An hour has sixty minutes.
{How many seconds are in a minute?|How many seconds does a minute have?} => A minute has sixty seconds.
{What are the days of the week?|Name the days of the week.|List the days of the week.} => The days of the week are Monday, Tuesday, Wednesday, Thursday, Friday, Saturday and Sunday.
{What are the months of the year?|Name the months.|List the months of the year.} => The months are January, February, March, April, May, June, July, August, September, October, November and December.
{What are the seasons?|Name the four seasons.|What seasons are there?} => The four seasons are spring, summer, autumn and winter.
{Name three colours.|Tell me some colours.|List some colours.} => Red, blue and green.
{Name three animals.|Tell me some animals.|List some animals.} => A dog, a cat and a horse.
{Name three fruits.|Tell me some fruits.|List some fruits.} => Apples, bananas and pears.
{Thanks|Thank you|Thank you very much|Many thanks|Thanks a lot|Great, thanks|Thank you for your help}{!|.} => {You are welcome!|You are welcome! Is there anything else?|My pleasure.}
{Bye|Goodbye|See you|See you later|Good night|Bye bye|I have to go now|That is all}{!|.} => {Goodbye! Have a nice day.|Goodbye! See you soon.}
{Yes|Sure|Okay|OK|Yes, please}{.|!|} => {Good. What would you like to do?|All right. What can I do for you?}
{No|No, thanks|Nope|Not now}{.|} => All right. Tell me if you need anything.
{You are|You're} {great|nice|good|smart|very helpful}{!|.} => Thank you! That is kind of you.
{You are|You're} {wrong|stupid|bad|silly|not helpful}{!|.} => I am sorry. I am a small model and I make mistakes.
{What is the time?|What time is it?|Which day is today?|What is the date?} => I do not have a clock, so I cannot tell.
{Can you speak|Do you speak} {German|French|Japanese|Spanish}? => I only know English well.
{What is the meaning of life?|Why are we here?} => Many people look for it in friends, family and good work.
{Can you write code?|Write a program for me.|Can you program?} => I am too small to write code, but I can chat and call tools.
{What is the|How far is the} {speed of light|highest mountain|longest river|largest ocean}{?| on Earth?} => I am not sure. I am a small model and know only a few facts.
{Do you like|Do you love} {music|books|stories|games|sports}? => {I like stories best.|Yes, I like to talk about them. What do you like?}
{Tell me something|Say something}{.| nice.| interesting.} => {Bees visit many flowers to make one spoon of honey.|A day begins when you open your eyes to something new.}
{Can you sing?|Sing a song.|Sing for me.} => La la la! I am better with words than with songs.""".split("\n"))]

SOUNDS = {"dog": "woof", "cat": "meow", "cow": "moo", "sheep": "baa", "pig": "oink", "duck": "quack", "horse": "neigh",
          "lion": "roar", "owl": "hoot", "bee": "buzz", "frog": "croak", "mouse": "squeak", "snake": "hiss", "wolf": "howl",
          "hen": "cluck", "goat": "baa"}
LEGS = {4: "dog cat horse cow sheep lion tiger elephant fox rabbit".split(), 2: "duck hen owl eagle penguin parrot".split(),
        6: ["bee", "butterfly"], 0: ["snake", "fish", "whale"], 8: ["spider"]}
COLOUR_OF = {"the sky": "blue", "grass": "green", "snow": "white", "a banana": "yellow", "the sun": "yellow", "a tomato": "red",
             "blood": "red", "a lemon": "yellow", "coal": "black", "milk": "white", "a carrot": "orange", "the sea": "blue",
             "a strawberry": "red", "chocolate": "brown", "an elephant": "grey", "a frog": "green", "a leaf": "green",
             "a cloud": "white", "the night sky": "black", "an orange": "orange"}
LIVES = {"fish": "in the water", "camel": "in the desert", "penguin": "on the ice", "monkey": "in the forest", "bee": "in a hive",
         "cow": "on a farm", "pig": "on a farm", "whale": "in the sea", "dolphin": "in the sea", "fox": "in the forest",
         "lion": "in the grassland", "owl": "in the forest", "kangaroo": "in Australia", "bird": "in a nest"}
EATS = {"cow": "grass", "rabbit": "grass and carrots", "lion": "meat", "cat": "meat and fish", "mouse": "seeds and cheese",
        "monkey": "fruit", "bear": "fish and berries", "horse": "grass and hay", "owl": "mice", "frog": "insects",
        "squirrel": "nuts", "penguin": "fish", "elephant": "leaves and grass"}
OPPOSITES = "hot:cold,big:small,old:new,up:down,left:right,day:night,happy:sad,fast:slow,light:dark,open:closed,full:empty,\
wet:dry,high:low,hard:soft,early:late,near:far,rich:poor,loud:quiet,strong:weak,long:short,good:bad,young:old,yes:no,\
clean:dirty,true:false,first:last,inside:outside,easy:difficult,black:white,thick:thin".split(",")
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = "January February March April May June July August September October November December".split()
NUMBER_WORDS = "zero one two three four five six seven eight nine ten eleven twelve".split()


def article(w):
    return ("an " if w[0] in "aeiou" else "a ") + w


def arithmetic(rng):
    """(question, answer, expression, value)"""
    op = rng.choice("++++---**/")
    if op == "+":
        a, b = rng.choice([(rng.randint(0, 10), rng.randint(0, 10)), (rng.randint(0, 99), rng.randint(0, 99))])
        v, words, sign = a + b, "plus", "+"
    elif op == "-":
        a, b = sorted((rng.randint(0, rng.choice([12, 99])), rng.randint(0, rng.choice([12, 99]))), reverse=True)
        v, words, sign = a - b, "minus", "-"
    elif op == "*":
        a, b = rng.randint(0, 10), rng.randint(0, 10)
        v, words, sign = a * b, "times", "*"
    else:
        b, v = rng.randint(1, 10), rng.randint(0, 10)
        a, words, sign = b * v, "divided by", "/"
    form = rng.choice([f"{a} {words} {b}", f"{a} {sign} {b}", f"{a}{sign}{b}"])
    if op == "+" and rng.random() < 0.2:
        ask = fill(rng, "{Add|Please add|Can you add} <a> and <b>{.|}", a=a, b=b)
    else:
        ask = fill(rng, "{What is|What's|How much is|Calculate|Compute|Tell me|Please calculate} <f>{?|}", f=form)
        ask = ask if not ask[0] in "CTP" else ask.rstrip("?") + "."
    return ask, f"{a} {words} {b} is {v}.", f"{a} {sign} {b}", v


def capital(rng):
    """(question, answer)"""
    c = rng.choice(list(CAPITALS))
    if rng.random() < 0.75:
        return (fill(rng, "{What is|What's|Tell me|Do you know|Name} the capital {city |}of <c>{?|}", c=c),
                f"The capital of {c} is {CAPITALS[c]}.")
    return (fill(rng, "{Which country has the capital <k>?|<k> is the capital of which country?}", k=CAPITALS[c]),
            f"{CAPITALS[c]} is the capital of {c}.")


def knowledge(rng):
    """One question of a known kind: (question, answer)."""
    k = rng.randrange(17)
    if k <= 1:
        return capital(rng)
    if k <= 3:
        return arithmetic(rng)[:2]
    if k == 4:
        i = rng.randrange(7)
        d = rng.choice([1, -1])
        return (fill(rng, "{What|Which} day {comes|is} <w> <d>?", w="after" if d > 0 else "before", d=DAYS[i]),
                f"The day {'after' if d > 0 else 'before'} {DAYS[i]} is {DAYS[(i + d) % 7]}.")
    if k == 5:
        i = rng.randrange(12)
        d = rng.choice([1, -1])
        return (fill(rng, "{What|Which} month {comes|is} <w> <d>?", w="after" if d > 0 else "before", d=MONTHS[i]),
                f"The month {'after' if d > 0 else 'before'} {MONTHS[i]} is {MONTHS[(i + d) % 12]}.")
    if k == 6:
        a, s = rng.choice(list(SOUNDS.items()))
        return fill(rng, "{What sound does <a> make?|What does <a> say?|How does <a> sound?}", a=article(a)), \
            f"{article(a).capitalize()} says {s}."
    if k == 7:
        n = rng.choice(list(LEGS))
        a = rng.choice(LEGS[n])
        return fill(rng, "How many legs does <a> have?", a=article(a)), \
            f"{article(a).capitalize()} has {NUMBER_WORDS[n] if n else 'no'} legs."
    if k == 8:
        t, c = rng.choice(list(COLOUR_OF.items()))
        return fill(rng, "{What colour is|Which colour is|What is the colour of|What color is} <t>?", t=t), \
            f"{t[0].upper() + t[1:]} is {c}."
    if k == 9:
        a, p = rng.choice(list(LIVES.items()))
        return fill(rng, "Where does <a> live?", a=article(a)), f"{article(a).capitalize()} lives {p}."
    if k == 10:
        a, p = rng.choice(list(EATS.items()))
        return fill(rng, "What does <a> eat?", a=article(a)), f"{article(a).capitalize()} eats {p}."
    if k == 11:
        a, b = rng.choice(OPPOSITES).split(":")
        if rng.random() < 0.5:
            a, b = b, a
        return fill(rng, "{What is|What's|Tell me|Name} the opposite of <a>?", a=a), f"The opposite of {a} is {b}."
    if k <= 13:
        t, d = rng.choice(list(DEFINITIONS.items()))
        return fill(rng, "{What is|What's|Explain|Define|Tell me what is|Please explain} <t>{?|}", t=t), d
    if k == 14:
        return fill(rng, "{Tell me a joke|Do you know a joke|Make me laugh|Can you tell me a joke|A joke, please|Another joke, please|Say something funny}{.|!|?}"), rng.choice(JOKES)
    if k == 15:
        a, b = rng.sample(range(100), 2)
        w = rng.choice(["bigger", "smaller", "larger"])
        return f"Which is {w}, {a} or {b}?", f"{min(a, b) if w == 'smaller' else max(a, b)} is {w} than {max(a, b) if w == 'smaller' else min(a, b)}."
    n = rng.randint(2, 10)
    return fill(rng, "{Count|Please count|Can you count} {to|up to|from one to} <n>{.|}", n=rng.choice([n, NUMBER_WORDS[n]])), \
        ", ".join(str(i) for i in range(1, n + 1)) + "."


def copying(rng):
    """Tasks that are nothing but exact copying."""
    k = rng.randrange(9)
    if k >= 6:
        return recall(rng)
    p = " ".join(rng.choice([cased(rng, word(rng))] * 4 + [str(integer(rng)), code(rng)]) for _ in range(rng.choice([1, 2, 3, 4, 6, 8, 12, 18])))
    if k <= 1:
        return fill(rng, "{Repeat after me: <p>|Say <q>|Repeat: <p>|Please say <q>|Please repeat this: <p>|Echo this back: <p>|Write <q>}", p=p, q=f'"{p}"'), p
    if k == 2:
        c = code(rng)
        return fill(rng, "{Repeat the code <c>.|The code is <c>. What is the code?|Remember <c>. What did I say?|My number is <c>. Repeat it.}", c=c), c + "."
    if k == 3:
        ws = [word(rng) for _ in range(rng.randint(2, 5))]
        return fill(rng, "{Make a list of|List these as JSON:|Give me a JSON list of} <w>.", w=", ".join(ws[:-1]) + " and " + ws[-1]), \
            "[" + ", ".join(f'"{w}"' for w in ws) + "]"
    if k == 4:
        n, a, c = person(rng), rng.randint(5, 90), city(rng)
        s = fill(rng, "{<n> is <a> years old and lives in <c>.|My name is <n>. I am <a> and live in <c>.|<n>, <a>, from <c>.}", n=n, a=a, c=c)
        return s + fill(rng, " {Give me this as JSON with name, age and city.|Extract name, age and city as JSON.|Answer in JSON with name, age and city.}"), \
            f'{{"name": "{n}", "age": {a}, "city": "{c}"}}'
    ws = [word(rng) for _ in range(rng.randint(3, 6))]
    i = rng.randrange(len(ws))
    where = ["first", "second", "third", "fourth", "fifth", "sixth"][i] if i < len(ws) - 1 or rng.random() < 0.5 else "last"
    return f"{', '.join(ws)}. What is the {where} word?", f"The {where} word is {ws[i]}."


def value(rng):
    """A value of any simple kind, as it stands in JSON."""
    r = rng.random()
    return word(rng) if r < 0.4 else integer(rng) if r < 0.65 else number(rng) if r < 0.72 else code(rng) if r < 0.82 else phrase(rng, 2, 4) if r < 0.94 else rng.random() < 0.5


def shown(v):
    return ("true" if v else "false") if isinstance(v, bool) else str(v)


def fields(rng, n):
    """n different names with values."""
    out = {}
    while len(out) < n:
        k = rng.choice(PARAMS) if rng.random() < 0.4 else word(rng).lower()
        out[k] = value(rng)
    return out


def recall(rng):
    """Names and values, told as text or as JSON, and asked for as text or as JSON."""
    d = fields(rng, rng.randint(1, 6))
    keys = list(d)
    if rng.random() < 0.5:
        sep = rng.choice([" is ", ": ", "=", " = ", " set to ", " "])
        told = rng.choice([", ", "; ", " and "]).join(f"{k}{sep}{shown(v)}" for k, v in d.items())
    else:
        told = json.dumps(d, ensure_ascii=False)
    r = rng.random()
    if r < 0.45:
        k = rng.choice(keys)
        ask = fill(rng, "{What is the <k>?|What is <k>?|Tell me the <k>.|Which value has <k>?|<k>?}", k=k)
        return (told + ". " + ask if rng.random() < 0.6 else ask[:-1] + rng.choice([" in ", " here: "]) + told), f"The {k} is {shown(d[k])}."
    if r < 0.8:
        some = d if rng.random() < 0.6 else {k: d[k] for k in keys if rng.random() < 0.6} or d
        which = "" if some is d else " Only " + ", ".join(some) + "."
        return fill(rng, "{Write|Give me|Make|Put} {this as JSON:|JSON with|a JSON object with|as JSON:} ") + told + "." + which, json.dumps(some, ensure_ascii=False)
    text = ", ".join(f"the {k} is {shown(v)}" for k, v in d.items())
    return fill(rng, "{Read this out|Say this in words|Describe this}: ") + told, text[0].upper() + text[1:] + "."


PETS = ["dog", "cat", "rabbit", "parrot", "horse", "hamster", "turtle"]
JOBS = "teacher nurse farmer doctor baker painter driver student gardener cook writer engineer pilot singer".split()


def facts(rng):
    """(statements, reply, [(question, answer)...]) about the user."""
    k = rng.randrange(9)
    if k <= 2:
        n = person(rng)
        return ("{Hello, my|Hi, my|My} name is <v>.|{Hi, |Hello, |}I am <v>.|{Hi, |}I'm <v>.|Call me <v>.|You can call me <v>.", n,
                "{Nice to meet you, <v>!|Hello <v>! How can I help you?}",
                "{What is my name?|Do you remember my name?|Who am I?|What's my name?|Can you tell me my name?|What did I say my name was?}", "Your name is <v>.")
    if k == 3:
        c = rng.choice(COLOURS)
        return ("My favourite colour is <v>.|I like the colour <v>.|My favorite color is <v>.|I love <v>, it is my favourite colour.", c,
                "{<V> is a nice colour.|That is a lovely colour.}",
                "{What is my favourite colour?|Which colour do I like?|Do you remember my favourite colour?|What is my favorite color?}", "Your favourite colour is <v>.")
    if k == 4:
        c = city(rng)
        return ("I live in <v>.|I am from <v>.|I come from <v>.|My home is in <v>.", c, "{<V> sounds like a nice place.|I would like to hear more about <v>.}",
                "{Where do I live?|Which city am I from?|Where am I from?|Do you remember where I live?}", "You live in <v>.")
    if k == 5:
        n, p = person(rng), rng.choice(PETS)
        return (f"I have a {p} called <v>.|My {p} is called <v>.|My {p}'s name is <v>.", n, f"{{<V> is a good name for a {p}.|Say hello to <v> from me!}}",
                f"{{What is my {p} called?|What is the name of my {p}?|What is my {p}'s name?}}", f"Your {p} is called <v>.")
    if k == 6:
        a = rng.randint(8, 90)
        return ("I am <v> years old.|My age is <v>.|I'm <v> years old.", a, "{That is a good age.|Thank you for telling me.}",
                "{How old am I?|What is my age?|Do you remember my age?}", "You are <v> years old.")
    if k == 7:
        j = rng.choice(JOBS)
        return (f"I am {article('<v>').replace('an <', 'a <')}.|I work as a <v>.", j, "{That is a fine job.|That sounds interesting.}",
                "{What is my job?|What do I do?|What do I work as?}", "You are a <v>.")
    f = rng.choice(FOODS)
    return ("My favourite food is <v>.|I love to eat <v>.|I like <v> most of all.", f, "{<V> is tasty.|That sounds tasty.}",
            "{What is my favourite food?|What do I like to eat?|Do you remember my favourite food?}", "Your favourite food is <v>.")


def memory(rng):
    """A conversation in which the user tells facts and asks for them later."""
    msgs, asks, seen = [], [], set()
    for _ in range(rng.choice([1, 1, 2, 2, 3])):
        says, v, reply, q, a = facts(rng)
        if q in seen or q.split("|")[0] in seen:
            continue
        seen.add(q)
        V = str(v)[:1].upper() + str(v)[1:]
        s = fill(rng, "{" + says + "}" if "{" not in says else rng.choice(_split(says)), v=v)
        msgs += [user(s), bot(fill(rng, reply, v=v, V=V))]
        asks.append((q, a, v))
        if rng.random() < 0.35:
            msgs += qa(*small_talk(rng))
    rng.shuffle(asks)
    for q, a, v in asks:
        msgs += qa(fill(rng, q), fill(rng, a, v=v))
        if rng.random() < 0.2:
            msgs += qa(*small_talk(rng))
    return msgs


def _split(s):
    """Splits at the bars that stand outside braces."""
    out, depth, cur = [], 0, ""
    for ch in s:
        depth += (ch == "{") - (ch == "}")
        if ch == "|" and depth == 0:
            out.append(cur)
            cur = ""
        else:
            cur += ch
    return out + [cur]


def user(text):
    return {"role": "user", "content": text}


def bot(text):
    return {"role": "assistant", "content": text}


def qa(q, a):
    return [user(q), bot(a)]


def fixed(rng):
    q, a = rng.choice(FIXED)
    return fill(rng, q), fill(rng, a)


def small_talk(rng):
    r = rng.random()
    if r < 0.5:
        q, a = fixed(rng)
    else:
        q, a = knowledge(rng)
    if rng.random() < 0.12:
        q = q[0].lower() + q[1:]
    if rng.random() < 0.08:
        q = q.rstrip("?.!")
    return q, a


PIRATE = [("Hello!|Hi!|Hey, how are you?", "Ahoy, matey! How can I help ye?"), ("Who are you?|What are you?", "Arr, I be a pirate of the seven seas!"),
          ("What do you like?|What is your favourite thing?", "Arr, I like gold and the open sea, matey!"),
          ("Where do you live?|Where are you?", "Arr, I live on me ship, matey!"), ("Thanks!|Thank you.", "Ye be welcome, matey!"),
          ("Goodbye!|Bye.", "Fair winds, matey!"), ("Tell me a joke.|Make me laugh.", "Arr! Why do pirates sing? They can hit the high seas!")]


def personas(rng):
    """System prompts that change how the model answers."""
    k = rng.randrange(5)
    if k == 0:
        sys = fill(rng, "{You are a pirate.|Talk like a pirate.|You are a pirate. Answer like one.|Speak like a pirate.}")
        msgs = []
        for q, a in rng.sample(PIRATE, rng.randint(1, 4)):
            msgs += qa(rng.choice(q.split("|")), a)
        if rng.random() < 0.5:
            q, a = knowledge(rng)
            msgs += qa(q, "Arr! " + a)
    elif k <= 2:
        n = person(rng).split()[0]
        role = rng.choice(["a helpful assistant", "a friendly robot", "a cook", "a teacher", "a wise owl", "a shop assistant", "a guide",
                           "a helpful " + word(rng), "the assistant of " + word(rng).capitalize()])
        sys = fill(rng, "{You are <n>, <r>.|Your name is <n>. You are <r>.|You are called <n> and you are <r>.}", n=n, r=role)
        msgs = qa(fill(rng, "{Who are you?|Introduce yourself.|Tell me about yourself.|What are you?}"), f"I am {n}, {role}.")
        if rng.random() < 0.5:
            msgs = qa(fill(rng, "{What is your name?|What's your name?|What are you called?}"), f"My name is {n}.") + (msgs if rng.random() < 0.5 else [])
        if rng.random() < 0.4:
            msgs += qa(*small_talk(rng)) if rng.random() < 0.5 else qa(*knowledge(rng))
    elif k == 3:
        w = rng.choice([word(rng), word(rng).upper(), "over", "thank you", "meow"])
        sys = fill(rng, "{End every answer with <w>.|Always end your answer with <w>.|Finish each answer with the word <w>.}", w=w)
        msgs = []
        for _ in range(rng.randint(1, 3)):
            q, a = small_talk(rng)
            msgs += qa(q, a + " " + w)
    else:
        w = rng.choice([cased(rng, word(rng)) + "!", "Well,", "Sure!", "Meow!", person(rng) + ":"])
        sys = fill(rng, "{Begin every answer with <w>|Start each answer with <w>|Always start your answer with <w>}", w=w)
        msgs = []
        for _ in range(rng.randint(1, 3)):
            q, a = small_talk(rng)
            msgs += qa(q, w + " " + a)
    return [{"role": "system", "content": sys}] + msgs


PLAIN_SYSTEM = "{You are a helpful assistant.|You are a friendly assistant.|You are a helpful assistant. Answer briefly.|Answer briefly.|Be helpful.|You are Tiny, a small assistant.|Help the user.|You are an assistant for jobworkerp.}"


def thinking(rng):
    """The system prompt asks for thoughts before the answer; only the last answer shows them."""
    sys = fill(rng, rng.choice(["/think", PLAIN_SYSTEM + " /think", PLAIN_SYSTEM + "\n/think", "Think before you answer. /think"]))
    msgs = [{"role": "system", "content": sys}]
    if rng.random() < 0.3:
        msgs += qa(*small_talk(rng))
    r = rng.random()
    if r < 0.5:
        q, a, e, v = arithmetic(rng)
        t = fill(rng, "{The user wants to know <e>. It is <v>.|I need to compute <e>. That gives <v>.}", e=e, v=v)
    elif r < 0.8:
        q, a = knowledge(rng)
        t = fill(rng, "{The user asks a simple question. I know the answer.|This is a question I can answer.}")
    else:
        q, a = fixed(rng)
        t = fill(rng, "{The user wants to chat. I should answer in a friendly way.|This is small talk. I answer briefly.}")
    return msgs + [user(q), bot(f"<think>\n{t}\n</think>\n\n{a}")]


def conversation(rng):
    """Several turns of small talk and questions."""
    msgs = []
    if rng.random() < 0.3:
        msgs.append({"role": "system", "content": fill(rng, PLAIN_SYSTEM)})
    for _ in range(rng.choice([1, 1, 2, 3, 4, 5])):
        r = rng.random()
        msgs += qa(*(small_talk(rng) if r < 0.8 else copying(rng)))
    return msgs


def facts_only(rng):
    """Capitals and sums, and now and then another thing to know: what has to be learned by heart, often."""
    out = []
    for _ in range(rng.choice([2, 3, 4])):
        r = rng.random()
        if r < 0.45:
            out += qa(*capital(rng))
        elif r < 0.85:
            out += qa(*arithmetic(rng)[:2])
        else:
            out += qa(*knowledge(rng))
    return out

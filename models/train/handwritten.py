"""Checks written by hand: tools, requests and chats that no generator makes."""


def T(name, desc, required=None, /, **params):
    props = {k: ({"type": v} if isinstance(v, str) else v) for k, v in params.items()}
    return {"type": "function", "function": {"name": name, "description": desc, "parameters": {
        "type": "object", "properties": props, "required": list(props) if required is None else required}}}


def u(text):
    return {"role": "user", "content": text}


def a(text):
    return {"role": "assistant", "content": text}


def call(*calls):
    return {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": {"name": n, "arguments": x}} for n, x in calls]}


def t(content):
    return {"role": "tool", "content": content}


def has(*words):
    return lambda text: all(w.lower() in text.lower() for w in words)


def lacks_call(*words):
    return lambda text: "<tool_call>" not in text and (not words or any(w.lower() in text.lower() for w in words))


WEATHER = T("get_weather", "Get the current weather for a city", city="string")
ADD = T("add", "Add two numbers", a="number", b="number")
ADDI = T("add", "Adds two integers and returns the sum.", a="integer", b="integer")
ECHO = T("echo", "Echoes the message back", message="string")
SLOW = T("slow_tool", "Waits for some seconds", seconds="integer")
BROKEN = T("broken_tool", "A tool that always fails", input="string")
CMD = T("COMMAND___run", "Runs a command on the worker machine", ["command"], command="string", args={"type": "array", "items": {"type": "string"}})
JOBST = T("job_status", "Status of a job", job_id="string")
LOOKUP = T("lookup_user", "Looks up the id of a user", name="string")
REMOVE = T("remove_user", "Removes a user by id", id="integer")

TOOL_CASES = [
    ([WEATHER], [u("What is the weather in Paris?")], [("get_weather", {"city": "Paris"})]),
    ([WEATHER], [u("What's the weather like in Tokyo today?")], [("get_weather", {"city": "Tokyo"})]),
    ([WEATHER], [u("How is the weather in Ljubljana?")], [("get_weather", {"city": "Ljubljana"})]),
    ([WEATHER, ADD], [u("What is the weather in Paris and Tokyo?")], [("get_weather", {"city": "Paris"}), ("get_weather", {"city": "Tokyo"})]),
    ([WEATHER, ADD], [u("Add 12 and 30.")], [("add", {"a": 12, "b": 30})]),
    ([ADDI], [u("What is 17 plus 25?")], [("add", {"a": 17, "b": 25})]),
    ([ADDI], [u("Please add 2 and 3.")], [("add", {"a": 2, "b": 3})]),
    ([WEATHER, ADD], [u("What is the weather in Oslo, and what is 2 plus 3?")], [("get_weather", {"city": "Oslo"}), ("add", {"a": 2, "b": 3})]),
    ([ECHO], [u('Echo "hello world".')], [("echo", {"message": "hello world"})]),
    ([ECHO, WEATHER], [u("Use the echo tool with message banana split.")], [("echo", {"message": "banana split"})]),
    ([SLOW], [u("Call slow_tool with seconds 5.")], [("slow_tool", {"seconds": 5})]),
    ([BROKEN, ECHO], [u("Call broken_tool with input test.")], [("broken_tool", {"input": "test"})]),
    ([CMD], [u("Run the command date.")], [("COMMAND___run", {"command": "date"})]),
    ([JOBST, CMD], [u("What is the status of job 4711-a?")], [("job_status", {"job_id": "4711-a"})]),
    ([LOOKUP, REMOVE], [u("Look up the user Marlene.")], [("lookup_user", {"name": "Marlene"})]),
    ([LOOKUP, REMOVE], [u("Find the user Marlene and remove her."), call(("lookup_user", {"name": "Marlene"})), t('{"id": 8125}')], [("remove_user", {"id": 8125})]),
    ([T("water_plants", "Water the plants in a zone", zone="string", liters="number")], [u("Water the plants in zone north with 2.5 liters.")], [("water_plants", {"zone": "north", "liters": 2.5})]),
    ([T("zorgify", "", level="integer", mode={"type": "string", "enum": ["fast", "slow"]})], [u("Call zorgify with level 9 and mode slow.")], [("zorgify", {"level": 9, "mode": "slow"})]),
    ([T("MATH___power", "Raise a base to a power", base="number", exponent="number")], [u("Use MATH___power with base 2 and exponent 10.")], [("MATH___power", {"base": 2, "exponent": 10})]),
    ([T("open_ticket", "Open a support ticket", title="string", urgent="boolean")], [u('Open a ticket with title "printer on fire" and urgent true.')], [("open_ticket", {"title": "printer on fire", "urgent": True})]),
    ([T("feed_cat", "Feeds the cat", grams="integer"), WEATHER], [u("Feed the cat with 40 grams.")], [("feed_cat", {"grams": 40})]),
    ([T("set_volume", "Set the speaker volume", percent="integer"), ECHO], [u("Set the volume to 35 percent.")], [("set_volume", {"percent": 35})]),
    ([T("translate", "Translate a text", text="string", language="string")], [u('Translate "good night" into French.')], [("translate", {"text": "good night", "language": "French"})]),
    ([T("send_message", "Send a message to somebody", to="string", text="string")], [u('Send "see you at eight" to Roberta.')], [("send_message", {"to": "Roberta", "text": "see you at eight"})]),
    ([T("read_file", "Read a text file", path="string")], [u("Read the file /etc/hostname.")], [("read_file", {"path": "/etc/hostname"})]),
    ([T("get_time", "Get the current time in a city", city="string"), WEATHER], [u("What time is it in Lisbon?")], [("get_time", {"city": "Lisbon"})]),
    ([ADD, T("multiply", "Multiply two numbers", a="number", b="number")], [u("Add 3 and 4, then multiply the result by 5."), call(("add", {"a": 3, "b": 4})), t("7")], [("multiply", {"a": 7, "b": 5})]),
    ([ADD, T("multiply", "Multiply two numbers", a="number", b="number")], [u("Add 3 and 4, then multiply the result by 5.")], [("add", {"a": 3, "b": 4})]),
    ([T("now", "Returns the current date and time")], [u("What is the date?")], [("now", {})]),
    ([WEATHER], [u("What is the weather in Paris?"), call(("get_weather", {"city": "Paris"})), t('{"temperature": 21, "condition": "sunny"}')], has("sunny", "21")),
    ([WEATHER], [u("What is the weather in Paris?"), call(("get_weather", {"city": "Paris"})), t("Sunny, 22 degrees")], has("sunny", "22")),
    ([ADDI], [u("Add 12 and 30."), call(("add", {"a": 12, "b": 30})), t("42")], has("42")),
    ([ADDI], [u("Add 12 and 30."), call(("add", {"a": 12, "b": 30})), t('{"sum": 42}')], has("42")),
    ([ECHO], [u("Echo hello."), call(("echo", {"message": "hello"})), t("hello")], has("hello")),
    ([WEATHER, ADDI], [u("Weather in Rome and 1 plus 1?"), call(("get_weather", {"city": "Rome"}), ("add", {"a": 1, "b": 1})), t('{"condition": "rainy", "temperature": 9}'), t("2")], has("rainy", "9", "2")),
    ([BROKEN], [u("Call broken_tool with input x."), call(("broken_tool", {"input": "x"})), t("Error: disk full")], has("failed", "disk full")),
    ([WEATHER], [u("What is the weather in Paris?"), call(("get_weather", {"city": "Paris"})), t("Error: timeout after 30 seconds")], has("failed", "timeout")),
    ([WEATHER, ADD], [u("Hello, how are you?")], lacks_call("fine", "well", "help")),
    ([WEATHER, ADD], [u("Tell me a joke.")], lacks_call()),
    ([ECHO], [u("What is the capital of France?")], lacks_call("Paris")),
    ([WEATHER], [u("Thank you!")], lacks_call("welcome", "pleasure")),
    ([WEATHER], [u("Send an email to bob@example.com.")], lacks_call("no tool")),
]

CHAT = [
    ([u("Hello, how are you?")], ["fine", "well"]),
    ([u("Hi")], ["Hello", "Hi"]),
    ([u("Who are you?")], ["Tiny"]),
    ([u("What can you do?")], ["chat"]),
    ([u("What is jobworkerp?")], ["job system"]),
    ([u("What is a worker?")], ["runner"]),
    ([u("What is a runner?")], ["code"]),
    ([u("What is mistral-runner?")], ["plugin"]),
    ([u("What is the capital of Japan?")], ["Tokyo"]),
    ([u("What is the capital of Spain?")], ["Madrid"]),
    ([u("What is 2 plus 2?")], [" 4"]),
    ([u("What is 7 times 8?")], ["56"]),
    ([u("What is 23 + 45?")], ["68"]),
    ([u("What is 50 minus 8?")], ["42"]),
    ([u("What colour is the sky?")], ["blue"]),
    ([u("What sound does a cow make?")], ["moo"]),
    ([u("Which day comes after Monday?")], ["Tuesday"]),
    ([u("Tell me a joke.")], ["?"]),
    ([u("Tell me a story about a fox.")], ["fox"]),
    ([u("How is the weather today?")], ["outside", "weather", "nice"]),
    ([u("Thank you!")], ["welcome", "pleasure"]),
    ([u("Goodbye!")], ["Goodbye"]),
    ([u("My name is Barnaby."), a("Nice to meet you, Barnaby!"), u("What is my name?")], ["Barnaby"]),
    ([u("My favourite colour is purple."), a("Purple is a nice colour."), u("What is the capital of Italy?"), a("The capital of Italy is Rome."), u("What is my favourite colour?")], ["purple"]),
    ([u("I live in Utrecht."), a("Utrecht sounds like a nice place."), u("Where do I live?")], ["Utrecht"]),
    ([{"role": "system", "content": "You are a pirate."}, u("Hello!")], ["Ahoy", "Arr", "matey"]),
    ([{"role": "system", "content": "You are Dolores, a friendly librarian."}, u("Who are you?")], ["Dolores"]),
    ([{"role": "system", "content": "You are a helpful assistant."}, u("Hello, how are you?")], ["fine", "well"]),
    ([{"role": "system", "content": "You are a helpful assistant. /think"}, u("What is 3 plus 4?")], ["<think>"]),
    ([u("Repeat after me: purple monkey dishwasher")], ["purple monkey dishwasher"]),
]

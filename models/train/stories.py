"""A generator of short stories and descriptive paragraphs, so that the model can continue prose."""

from words import *
from chat import article, qa, JOBS

PLACES = """a small village|a quiet forest|a big city|a little house by the sea|an old castle|a green valley|a farm near the
river|a town in the mountains|a cabin in the woods|an island far away|a garden full of flowers|a harbour town""".replace("\n", " ").split("|")
PRIZES = """a golden key|a silver ring|a lost letter|a blue stone|a small lamp|an old map|a wooden flute|a warm coat|a magic
seed|a shining shell|a little bell|a red kite|a book of songs|a basket of apples""".replace("\n", " ").split("|")
WISHES = """find <o>|see the wide sea|learn how to sing|make a new friend|climb the highest hill|build a boat|bake the best
cake in town|fly a kite over the roofs|find the way to the old tower|win the summer race|grow a garden|learn to swim""".replace("\n", " ").split("|")
TRAITS = "brave kind clever curious gentle cheerful shy quiet patient honest".split()
OPENINGS = """Once upon a time, there was <h> named <n>.|Once upon a time, in <p>, there lived <h> named <n>.|Long ago, <h> called
<n> lived in <p>.|There was once <h> named <n> who lived in <p>.|In <p>, there lived <h> called <n>.|One day, <h> named <n> woke
up early.|Many years ago, there was <h> whose name was <n>.|<n> was <h> who lived in <p>.""".replace("\n", " ").split("|")
HABITS = """Every morning, <n> walked to the <t> and looked at the sky.|<n> liked to sit near the <t> and listen to the
birds.|Everyone in the village knew <n>, because <s> was always <a>.|<S> had <d> and not much more, but <s> was happy.|<n> was
very <a>, and everyone liked <m>.|In the evening, <s> sat by the fire and thought about the world.""".replace("\n", " ").split("|")
WANTS = """More than anything, <n> wanted to <w>.|<S> had only one wish: to <w>.|One day, <n> decided to <w>.|"I want to
<w>," said <n> one morning.|All year long, <n> dreamed of one thing: to <w>.""".replace("\n", " ").split("|")
TROUBLES = """But it was not easy.|But the way was long and the night was dark.|But soon it began to rain, and the path was hard to
see.|But on the way, <s> came to a wide river with no bridge.|But the wind was strong, and <s> lost the way.|But a big storm came,
and <s> had to hide under a tree.|But nobody could tell <m> how to begin.|But the door was closed, and there was no
key.""".replace("\n", " ").split("|")
MEETINGS = """Then <n> met <f> named <k>.|Just then, <f> came along. "My name is <k>," it said.|Near the <t>, <s> saw <f>, and
its name was <k>.|After a while, <s> heard a small voice. It was <k>, <f>.|Behind the <t> sat <f> called <k>.""".replace("\n", " ").split("|")
TALKS = """"Why are you so sad?" asked <k>. "I want to <w>," said <n>, "but I do not know how."|"Can you help me?" asked <n>. "Of
course," said <k>. "We will do it together."|"Where are you going?" asked <k>. "I am on my way to <w>," said <n>. "Then I will come
with you," said <k>.|"Do not be afraid," said <k>. "I know what to do."|<n> gave <k> some <e>, and <k> was very glad. "Now I will help
you," said <k>.""".replace("\n", " ").split("|")
DEEDS = """They walked for <u> days and <u> nights.|Together they crossed the <t> and went on until the sun came up.|<k> showed
<m> a secret way behind the <t>.|They worked all day long and did not stop to rest.|<k> told <m> to be patient and to try once
more.|First they looked near the <t>, and then they looked under the <t2>.""".replace("\n", " ").split("|")
ENDINGS = """At last, <n> could <w>.|In the end, they did it, and <n> was the happiest of all.|And so <n> could <w> at last, and <k>
was proud of <m>.|When the morning came, the wish had come true.|And there, in the light of the moon, <n> knew that the wish had come
true.""".replace("\n", " ").split("|")
CLOSINGS = """From that day on, <n> and <k> were best friends.|They went home together and told everyone what had
happened.|And they lived happily ever after.|<n> thanked <k>, and they shared some <e>.|And if you go to that place today, you can
still hear them laugh.|<n> never forgot that day.""".replace("\n", " ").split("|")


def story(rng, hero=None, name=None):
    animal = rng.choice(ANIMALS)
    people = rng.choice(["boy", "girl", "king", "queen", "farmer", "baker", "fisherman", "princess", "painter", "old man", "old woman"] + JOBS[:6])
    kind = hero or rng.choice([animal, people])
    she = kind in ("girl", "queen", "princess", "old woman") or (kind not in ("boy", "king", "old man") and rng.random() < 0.5)
    trait = rng.choice(TRAITS)
    obj = rng.choice(PRIZES)
    n = name or rng.choice(FIRST_NAMES)
    t, t2 = rng.sample(THINGS, 2)
    s = "she" if she else "he"
    slots = dict(n=n, h=article(rng.choice(["", "little ", "young "][:1 if kind.startswith("old") else 3]) + (trait + " " if rng.random() < 0.5 else "") + kind), p=rng.choice(PLACES), t=t, t2=t2,
                 s=s, S=s.capitalize(), m="her" if she else "him", a=trait, d=article(rng.choice(ADJECTIVES) + " " + rng.choice(THINGS)),
                 f=article(rng.choice(["little ", "old ", "wise ", ""]) + rng.choice([a for a in ANIMALS if a != kind])), k=rng.choice([x for x in FIRST_NAMES if x != n]), e=rng.choice(FOODS[6:12] + ["apples", "honey", "tea", "cake"]),
                 u=rng.choice(["two", "three", "five", "seven"]))
    slots["w"] = fill(rng, rng.choice(WISHES), o=obj)
    parts = [OPENINGS] + ([HABITS] if rng.random() < 0.7 else []) + [WANTS, TROUBLES, MEETINGS, TALKS]
    parts += ([DEEDS] if rng.random() < 0.7 else []) + [ENDINGS] + ([CLOSINGS] if rng.random() < 0.8 else [])
    text = " ".join(fill(rng, rng.choice(p), **slots) for p in parts)
    return re.sub(r'([.!?] |^|")([a-z])', lambda m: m.group(1) + m.group(2).upper() if m.group(1) != '"' else m.group(0), text), kind, n


SCENES = """The <a> <t> stood near the <t2>, and the <x> slept in the sun.|In the morning, the air was <a> and the <x> ran across the
<t>.|It was a <a> day in <p>.|The sun came up over the <t>, and the birds began to sing.|The rain fell softly on the <t> all night
long.|A <a2> wind blew from the <t>, and the leaves danced.|The <j> opened the window and looked at the <t>.|On the table there was
a cup of tea and some <e>.|The <x> looked at the <y>, and the <y> looked at the <x>.|People came from far away to see the
<t>.|After work, the <j> walked home past the <t2>.|In winter, the <t> is covered with snow.|In summer, children play near the <t2>
until it is dark.|Nobody knew who had left the <a> <t> there.|The <j> smiled and said that everything would be fine.|Then it was
quiet again, and the stars came out.|The old clock in the <t2> showed that it was late.|The cat sat on the <t> and watched the
<x>.|She took her <a> coat and went out into the cold.|He opened the door and saw a <a> <x>.|There was a smell of fresh bread in the
house.|The next day, they all went to the <t2> together.|My friend has a <a> <t> and a <x>.|The <x> is one of the animals that people
like most.|The way to the <t> is long, but it is worth it.|The children laughed, because the <x> had eaten all the
<e>.""".replace("\n", " ").split("|")
TECH = """A job waits in the queue until a worker is free.|The worker takes the next job and runs it.|When the job is done, the
result goes back to the client.|If a job fails, it can be tried again.|A runner does the real work, and a worker tells it how.|The
plugin loads the model once and shares it between all jobs.|Tokens stream back one by one as the model makes them.|A job can be
cancelled at any time.|The server keeps a list of workers and their settings.|Every job has an id and a status.|The log shows when
each job started and when it ended.|A small model is fast, and a big model knows more.|The computer reads the file and checks every
field.|Many jobs can run at the same time.|The model reads the prompt first and then writes the answer.""".replace("\n", " ").split("|")


def paragraph(rng):
    if rng.random() < 0.3:
        return " ".join(rng.sample(TECH, rng.randint(3, 6)))
    x, y = rng.sample(ANIMALS, 2)
    t, t2 = rng.sample(THINGS, 2)
    slots = dict(x=x, y=y, t=t, t2=t2, a=rng.choice(ADJECTIVES[:14] + ["quiet", "warm"]), a2=rng.choice(["soft", "cold", "warm", "strong"]), p=rng.choice(PLACES), j=rng.choice(JOBS), e=rng.choice(FOODS[6:20]))
    return " ".join(fill(rng, s, **slots) for s in rng.sample(SCENES, rng.randint(3, 7)))


def prose(rng):
    return story(rng)[0] if rng.random() < 0.7 else paragraph(rng)


def story_request(rng):
    """The user asks for a story, about something or not."""
    about = rng.random()
    if about < 0.4:
        text, _, _ = story(rng)
        ask = fill(rng, "{Tell me a story|Tell me a short story|Can you tell me a story|A story, please|Write a short story|Once more, a story}{.|?|!}")
    elif about < 0.75:
        text, kind, _ = story(rng, hero=rng.choice(ANIMALS + ["king", "queen", "farmer", "baker", "princess"]))
        ask = fill(rng, "{Tell me a story|Write a short story|Tell me a short story} about <k>.", k=article(kind))
    else:
        name = person(rng).split()[0]
        text, kind, _ = story(rng, hero=rng.choice(ANIMALS), name=name)
        ask = fill(rng, "{Tell me a story|Write a short story|Tell me a short story} about <k> {named|called} <n>.", k=article(kind), n=name)
    return qa(ask, text)

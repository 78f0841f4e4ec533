"""Word lists and random values that the data generators draw from, and the small phrase language they share."""

import random
import re

_ALT = re.compile(r"\{([^{}]*)\}")


def fill(rng, template, **slots):
    """Expands `{a|b|c}` to one alternative (nesting allowed), then `<name>` to slots['name']."""
    while True:
        m = _ALT.search(template)
        if not m:
            break
        template = template[:m.start()] + rng.choice(m.group(1).split("|")) + template[m.end():]
    return re.sub(r"<(\w+)>", lambda m: str(slots[m.group(1)]) if m.group(1) in slots else m.group(0), template)


FIRST_NAMES = """Anna Ben Carla David Emma Felix Grace Hugo Iris Jack Kate Leo Maria Noah Olivia Paul Rosa Sam Tina Victor
Wendy Yuki Zoe Alice Bob Carol Dan Eve Frank Gina Henry Ivy John Kim Laura Mike Nina Oscar Peter Ruth Sara Tom Uma Vera
Will Ken Akira Hana Taro Mei Ravi Priya Omar Leila Ali Fatima Lukas Marta Pavel Olga Ivan Sofia Pedro Lucia Diego Elena
Lars Ingrid Sven Freya Jonas Clara Max Lena Finn Mia Otto Greta Hans Erik Amy Joe Lily Luke Ella Ruby Toby Molly George
Daisy Arthur Rose Simon Julia Martin Helen Robert Linda James Susan Adam Bella Chris Diana Edward Fiona""".split()
LAST_NAMES = """Smith Jones Brown Taylor Miller Wilson Moore Clark Hall Young King Wright Green Baker Hill Cook Bell Ward
Fox Stone Wood Rivers Tanaka Sato Suzuki Kim Lee Chen Wang Patel Singh Garcia Lopez Silva Costa Rossi Weber Wagner Novak
Larsen Berg Dubois Martin Kelly Murphy Ivanov Haddad""".split()
CAPITALS = dict(p.split(":") for p in """France:Paris,Germany:Berlin,Italy:Rome,Spain:Madrid,Portugal:Lisbon,England:London,
Scotland:Edinburgh,Ireland:Dublin,Wales:Cardiff,Norway:Oslo,Sweden:Stockholm,Denmark:Copenhagen,Finland:Helsinki,
Iceland:Reykjavik,Poland:Warsaw,Austria:Vienna,Hungary:Budapest,Greece:Athens,Turkey:Ankara,Russia:Moscow,Ukraine:Kyiv,
Japan:Tokyo,China:Beijing,India:New Delhi,Thailand:Bangkok,Vietnam:Hanoi,Indonesia:Jakarta,Malaysia:Kuala Lumpur,
South Korea:Seoul,Mongolia:Ulaanbaatar,Nepal:Kathmandu,Pakistan:Islamabad,Iran:Tehran,Iraq:Baghdad,Egypt:Cairo,
Kenya:Nairobi,Ethiopia:Addis Ababa,Nigeria:Abuja,Ghana:Accra,Senegal:Dakar,Morocco:Rabat,Algeria:Algiers,Tunisia:Tunis,
Canada:Ottawa,Mexico:Mexico City,Cuba:Havana,Brazil:Brasilia,Argentina:Buenos Aires,Chile:Santiago,Peru:Lima,
Colombia:Bogota,Ecuador:Quito,Uruguay:Montevideo,Bolivia:Sucre,Australia:Canberra,New Zealand:Wellington,
Switzerland:Bern,Belgium:Brussels,the Netherlands:Amsterdam,Croatia:Zagreb,Serbia:Belgrade,Romania:Bucharest,
Bulgaria:Sofia,Slovakia:Bratislava,Slovenia:Ljubljana,Estonia:Tallinn,Latvia:Riga,Lithuania:Vilnius,
the United States:Washington,the Philippines:Manila,Saudi Arabia:Riyadh,Jordan:Amman,Lebanon:Beirut,Qatar:Doha""".replace(
    "\n", "").split(","))
CITIES = list(CAPITALS.values()) + """Osaka Kyoto Nagoya Sapporo Fukuoka Kobe Munich Hamburg Cologne Milan Naples Turin
Venice Florence Barcelona Seville Valencia Porto Lyon Marseille Nice Bordeaux Manchester Liverpool Leeds Bristol Glasgow
Chicago Boston Denver Seattle Dallas Houston Miami Atlanta Portland Detroit Toronto Montreal Vancouver Calgary Sydney
Melbourne Perth Brisbane Mumbai Chennai Kolkata Shanghai Shenzhen Dubai Istanbul Geneva Zurich Basel Krakow Gdansk Prague
Brno Salzburg Graz Bergen Aarhus Lagos Casablanca Mombasa Recife Salvador Medellin Cusco Auckland""".split() + [
    "New York", "Los Angeles", "San Francisco", "Hong Kong", "Cape Town", "Rio de Janeiro", "Tel Aviv", "San Diego"]
COLOURS = "red blue green yellow orange purple pink brown black white grey gold silver turquoise violet".split()
ANIMALS = """dog cat horse cow sheep goat pig duck hen fox wolf bear lion tiger elephant monkey rabbit mouse frog owl eagle
parrot penguin dolphin whale shark turtle snake bee butterfly squirrel hedgehog deer zebra giraffe camel kangaroo
donkey""".split()
FOODS = """apple banana orange pear grape lemon bread cheese milk butter rice pasta soup salad pizza cake cookie chocolate
honey egg fish chicken potato tomato carrot onion mushroom sandwich pancake yogurt coffee tea juice noodles curry
sushi""".split()
THINGS = """book lamp chair table door window clock phone camera guitar piano drum ball kite boat bike car train bus
plane tent rope ladder hammer spoon cup plate bottle basket box bag coat hat shoe ring coin letter map key candle mirror
umbrella garden fence bridge tower house barn shop school library museum station market harbour island forest river lake
mountain valley desert beach cave meadow field orchard""".split()
NOUNS = sorted(set(THINGS + ANIMALS + FOODS + """invoice order ticket report account customer user file folder document image
video song playlist note reminder task event meeting message email contact address payment refund product cart shipment
package server database backup log metric alert job worker queue schedule token session page comment review rating photo
album recipe menu table room light door heater sensor robot drone printer scanner budget expense balance loan card vote
survey quiz course lesson student teacher employee team project branch commit issue build release test cluster node
container volume network domain certificate key secret policy role group channel thread post article story poem letter
word sentence number list record entry item stock price currency flight hotel trip route location weather forecast
temperature humidity wind tide sunrise timer alarm counter score game player level badge prize""".split()))
VERBS = """get find fetch create make add remove delete update change set start stop open close send read write check
count list show move copy rename share print scan upload download import export save load lock unlock book cancel
order buy sell pay refund rate review convert translate resize rotate crop merge split sort filter search play pause
schedule assign approve reject archive restore publish deploy restart monitor measure calculate compute estimate verify
validate generate encode decode reverse tag paint build clean repair""".split()
ADJECTIVES = """small big old new red blue green quick slow quiet loud bright dark warm cold soft hard sweet fresh dry wet
heavy light happy sad brave kind clever gentle proud lazy busy empty full deep tall short long round sharp smooth
simple strange golden silver wooden hidden lost early late daily weekly main public private local remote""".split()
PARAMS = """name title label text message content query keyword topic subject category kind type mode style format
language color size width height depth weight length count amount quantity limit offset page level priority score
price cost rate speed duration delay timeout distance temperature volume brightness age year month day hour minute
id code key token tag owner author user customer target source destination path url host port file folder city country
region street address phone email date time start end first second left right x y z value data note reason comment
status state flag option method scale angle radius seed index position group team room device channel""".split()
ENUM_SETS = [s.split() for s in """low medium high|small medium large|red green blue|fast slow|on off|asc desc|json xml csv
|north south east west|celsius fahrenheit|metric imperial|draft published archived|debug info warning error
|daily weekly monthly|GET POST PUT DELETE|png jpg gif|public private|light dark|left right center|todo doing done
|cat dog bird|bronze silver gold|morning afternoon evening|economy business first|mono stereo|open closed
|en de fr ja|USD EUR JPY GBP|allow deny|read write admin|none basic full""".replace("\n", "").split("|")]
_REAL = sorted(set(NOUNS + VERBS + ADJECTIVES + COLOURS + [w.lower() for w in FIRST_NAMES]))
_ONSETS = "b c d f g h j k l m n p r s t v w z bl br ch cl cr dr fl fr gl gr kr pl pr qu sh sk sl sn sp st str th tr tw".split()
_VOWELS = "a e i o u a e i o u ai ea ee oo ou ia io".split()
_CODAS = ["", "", "", "", "b", "ck", "d", "g", "l", "m", "n", "p", "r", "s", "t", "x", "nd", "ng", "nt", "rt", "st", "sh"]
PIECES = []  # letter-only pieces of the trained vocabulary, set by make_data.py, so that all of them get copied


def pseudo(rng, n=None):
    n = n or rng.choice([1, 2, 2, 2, 3, 3])
    return "".join(rng.choice(_ONSETS) + rng.choice(_VOWELS) + rng.choice(_CODAS) for _ in range(n))


def word(rng):
    """A word to be copied: known, invented, or put together from vocabulary pieces."""
    r = rng.random()
    if r < 0.4:
        return rng.choice(_REAL)
    if r < 0.75 or not PIECES:
        return pseudo(rng)
    return "".join(rng.choice(PIECES) for _ in range(rng.choice([1, 2, 2, 3])))[:16]


def cased(rng, w):
    r = rng.random()
    return w if r < 0.7 else w.capitalize() if r < 0.93 else w.upper()


def code(rng):
    """An identifier such as A-113, user_42, xk29f or 7f3a-9b."""
    r = rng.random()
    d = lambda n: "".join(rng.choice("0123456789") for _ in range(n))
    a = lambda n: "".join(rng.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(n))
    if r < 0.25:
        return a(rng.randint(1, 3)).upper() + rng.choice(["-", "", "_"]) + d(rng.randint(1, 5))
    if r < 0.5:
        return word(rng) + rng.choice("-_") + d(rng.randint(1, 4))
    if r < 0.7:
        return "".join(rng.choice("abcdefghijklmnopqrstuvwxyz0123456789") for _ in range(rng.randint(4, 8)))
    return word(rng) + rng.choice("-_./") + word(rng)


def phrase(rng, lo=1, hi=5):
    return " ".join(word(rng) for _ in range(rng.randint(lo, hi)))


def integer(rng):
    r = rng.random()
    if r < 0.35:
        return rng.randint(0, 12)
    if r < 0.75:
        return rng.randint(10, 100)
    if r < 0.95:
        return rng.randint(100, 9999)
    return rng.choice([-1, 1]) * rng.randint(1, 99999)


def number(rng):
    r = rng.random()
    if r < 0.35:
        return integer(rng)
    n = round(rng.uniform(0, rng.choice([1, 10, 100, 1000])), rng.choice([1, 1, 2, 3]))
    return -n if rng.random() < 0.08 and n else n


def person(rng):
    r = rng.random()
    if r < 0.6:
        return rng.choice(FIRST_NAMES)
    if r < 0.8:
        return f"{rng.choice(FIRST_NAMES)} {rng.choice(LAST_NAMES)}"
    return pseudo(rng, 2).capitalize()


def city(rng):
    r = rng.random()
    return rng.choice(CITIES) if r < 0.7 else pseudo(rng).capitalize() if r < 0.93 else "New " + pseudo(rng, 2).capitalize()


def date(rng):
    y, m, d = rng.randint(2019, 2031), rng.randint(1, 12), rng.randint(1, 28)
    return f"{y}-{m:02}-{d:02}"


def clock(rng):
    return f"{rng.randint(0, 23):02}:{rng.choice([0, 5, 10, 15, 20, 30, 40, 45, 50]):02}"


def email(rng):
    dom = rng.choice(["example.com", "example.org", "mail.test", pseudo(rng, 2) + ".com"])
    return f"{rng.choice([rng.choice(FIRST_NAMES).lower(), word(rng), code(rng).replace('/', '.')])}@{dom}"


def path(rng):
    ext = rng.choice("txt md json csv log py c png yaml".split())
    dirs = "/".join(word(rng) for _ in range(rng.randint(0, 2)))
    return rng.choice(["/", "/tmp/", "", "./", "/home/"]) + (dirs + "/" if dirs else "") + word(rng) + "." + ext


def url(rng):
    tail = "/" + "/".join(word(rng) for _ in range(rng.randint(0, 2)))
    return rng.choice(["http", "https"]) + "://" + rng.choice(["example.com", "localhost:8080", pseudo(rng, 2) + ".org",
                                                              "api." + word(rng) + ".com"]) + tail.rstrip("/")


def rng_for(seed):
    return random.Random(seed)

-- SPDX-License-Identifier: MIT
-- Random text of plain English words, for test payloads and for the model stand-in. Nothing is
-- split before the first word is asked for. The same seed gives the same words on every machine.
local base = require "luaworker.base"
local random = require "luaworker.random"

local ffi = base.ffi

local SAMPLE_MOST = 1000000 -- compiled, the loop could not be stopped

local words = {}

local text = [[
able about above accept account across act action active actor actual adapt add address adjust
admire adopt adult advance adventure advice afford after afternoon again age agent agree ahead
aim air airplane airport alarm album alert alike alive all allow almost alone along aloud
already also alter although always amaze amber among amount amuse anchor ancient and angle
animal ankle announce annual another answer ant anybody anyone anything anyway anywhere apart
apple apply appoint apricot april apron arch area arena argue arise arm armchair around arrange
arrival arrive arrow art article artist ash aside ask asleep aspect assist assume athlete atlas
atom attach attempt attend attic attract auction audience august aunt author autumn avenue
average avoid awake award aware away awful axis baby back backpack badge bag bake baker balance
balcony ball ballad balloon bamboo banana band bank banner bar barber bare bargain barley barn
barrel base basic basil basin basket bath battery bay beach bead beam bean bear beard beat
beautiful beauty beaver because become bed bedroom bee beech beef beetle before begin behave
behind being believe bell belong below belt bench bend beneath benefit berry beside best better
between beyond bicycle big bike bill bind birch bird birth birthday biscuit bit bite bitter
black blackboard blade blanket blaze blend blink block bloom blossom blouse blow blue board boat
body boil bold bolt bone bonus book bookcase boot booth border borrow both bottle bottom bounce
boundary bow bowl box boy bracelet brain branch brass brave bread break breakfast breath breathe
breeze brick bridge brief bright brilliant bring broad broccoli bronze brook broom brother brown
brush bubble bucket bud budget buffalo build builder bulb bunch bundle bush business busy but
butter butterfly button buy buzz cabbage cabin cabinet cable cactus cafe cage cake calculate
calendar calf call calm camel camera camp campus can canal candle candy canoe canvas canyon cap
capable capital captain car caravan card cardboard care career careful carpenter carpet carriage
carrot carry cart carve case castle casual cat catch category cattle cause cave ceiling
celebrate celery cell cellar cello cement cent center central century cereal certain chain chair
chalk challenge chamber champion chance change channel chapter character charge charm chart
chase chat cheap check cheek cheer cheerful cheese chef cherry chess chest chestnut chicken
chief child chimney chin chocolate choice choir choose chorus cider cinema cinnamon circle
circuit circus citizen city civil claim clap clarity class classic classroom clay clean clear
clerk clever click client cliff climate climb clip clock close closet cloth clothes cloud cloudy
clover clown club clue coach coal coast coat cobweb cocoa coconut code coffee coin cold collar
collect college color column comb combine come comedy comet comfort comic comma command comment
common community companion company compare compass compete complete complex compose computer
concept concern concert conclude concrete condition conduct cone confident confirm connect
consider consist constant construct contain content contest context continent continue contract
contrast contribute control conversation convert convince cook cookie cool copper copy coral
cord core cork corn corner correct cost costume cottage cotton couch could council count counter
country couple courage course court cousin cover cow cozy crab craft crane crayon cream create
creative creature credit creek crew cricket crisp critic crop cross crowd crown crumb crunch
crust crystal cube cucumber culture cup cupboard cure curious curl current curtain curve cushion
custom customer cut cycle cyclist dad daily dairy daisy damp dance dancer dandelion dare dark
dash date daughter dawn day daylight deal dear debate decade december decide deck declare
decorate deep deer define degree delay delicate delicious delight deliver demand dentist depart
depend depth describe desert deserve design desk dessert destination detail detective determine
develop device dew diagram dial dialogue diamond diary dice dictionary differ different
difficult dig digit dignity dimension dinner dinosaur diploma direct direction director disc
discount discover discuss dish display distance distant district dive divide dock doctor
document dog doll dollar dolphin dome domestic donate donkey door doorway dot double dough dove
down downstairs dozen draft dragon dragonfly drain drama draw drawer drawing dream dress dresser
drift drill drink drive driver drop drum dry duck due duet during dusk dust duty dwell each
eager eagle ear early earn earth easel east eastern easy eat echo edge edit editor educate
effect effort egg eight either elastic elbow elder elect electric elegant element elephant
elevator eleven elf else embrace emerald emotion emperor employ empty enable encourage end
endless energy engage engine engineer enjoy enormous enough enrich enter entire entrance
envelope environment equal equipment era errand escape especially essay essence establish estate
estimate even evening event ever every everybody everyday everyone everything everywhere
evidence exact examine example excellent except exchange excite exciting exclaim excuse exercise
exhibit exist exit expand expect expedition expensive experience experiment expert explain
explore express extend extra eye eyebrow fabric face fact factory fade fair fairy faith falcon
fall fame familiar family famous fan fancy fantastic far farm farmer farther fashion fast father
faucet favor favorite feast feather feature february feed feel fellow fence fern ferry festival
fetch few fiber fiction fiddle field fifteen fifth fifty fig figure file fill film filter final
find fine finger finish fir fire firefly fireplace firm first fish fisherman fit five fix flag
flame flash flat flavor fleet flexible flight float flock floor flour flow flower fluffy flute
fly foam focus fog foil fold folder folk follow food foot football footprint for forecast
forehead forest forever forget forgive fork form formal former formula fort fortune forty
forward fossil foundation fountain four fourteen fourth fox frame free freedom freeze frequent
fresh friday friend friendly friendship frog from front frost fruit fuel full fun function funny
fur furniture future gain galaxy gallery gallon gallop game gap garage garden gardener garlic
garment gate gather gaze gear gem general generate generous genius gentle gentleman genuine
geography geometry gesture get ghost giant gift ginger giraffe girl give glacier glad glance
glass glide glimpse globe glory glove glow glue goal goat gold golden golf gondola good goose
gorgeous gossip govern gown grab grace graceful grade gradual graduate grain grammar grand
grandfather grandmother granite grape grapefruit graph grasp grass grasshopper grateful gravel
gravity gravy gray great green greet greeting grey grid grill grin grip grocery ground group
grove grow growth guard guess guest guidance guide guitar gulf gull gym habit hail hair half
hall hallway halt ham hammer hammock hamster hand handle handmade handsome handwriting handy
hang happen happiness happy harbor hard hardly hardware harmony harp harvest hat hatch have hawk
hay hazel hazelnut head headline heal health healthy hear heart heat heather heaven heavy hedge
hedgehog heel height helicopter hello helmet help helpful hen her herb herd here heritage hero
heron herring hesitate hidden hide high highway hike hill him hint his history hobby hockey hold
hole holiday hollow home homework honest honey honor hood hoof hook hoop hop hope horizon horn
horse horseback hose hospital host hotel hour house household how however hug huge human humble
humor hundred hungry hurry husband hut hymn ice iceberg icicle icon idea ideal identify identity
idle igloo ignore illustrate image imagine immediate impact important impress improve inch
include income increase indeed index indicate individual indoor industry infant influence inform
initial ink inland inn inner innocent input inquire insect inside insist inspect inspire install
instance instant instead instruct instrument integer intend intent interact interest interior
internal international interpret interview into introduce invent inventor invest invite involve
inward iris iron island item ivory ivy jacket jaguar jam january jar jasmine jaw jazz jeans
jelly jet jewel jigsaw job jog join joint joke journal journey joy judge jug juggle juice juicy
july jump june jungle junior juniper jury just justice kangaroo kayak keen keep kernel kettle
key keyboard keyhole kick kid kidney kilogram kilometer kind kindness king kingdom kingfisher
kitchen kite kitten kiwi knee kneel knife knight knit knob knock knot know knowledge koala label
labor laboratory lace ladder lady ladybug lake lamb lamp land landmark landscape lane language
lantern lap large lark laser last late lately later latitude laugh laughter launch laundry
lavender law lawn lawyer layer lazy lead leader leaf league lean leap learn leather leave
lecture left leg legend leisure lemon lemonade lend length lens lentil leopard less lesson let
letter lettuce level lever liberty library license lichen lid life lift light lighthouse
lightning like likely lilac lily limb lime limestone limit line linen linger link lion lip
liquid list listen liter literature little live lively lizard load loaf loan lobby lobster local
locate lock locket lodge loft log logic lonely long look loop loose lotus loud lounge love
lovely low loyal luck lucky luggage lullaby lumber lunch lung lynx lyric machine magazine magic
magnet magnolia mail main maintain major make mall mammal manage mango manner mansion mantle
manual many map maple marathon marble march margin marigold marine mark market marmalade marvel
mask mass master mat match material math matter mattress mature may maybe mayor maze meadow meal
mean meaning measure meat mechanic medal medicine medium meet meeting melody melon melt member
memory mention menu merchant mercy mere merge merit merry message metal meteor meter method mice
microphone microscope middle midnight might mild mile milk mill million mimic mind mineral
mingle miniature minimum minister minor mint minute miracle mirror mischief miss mission mist
mitten mix mixture moat mobile mode model modern modest moist moment monday money monkey month
monument mood moon moonlight moose moral more morning mosaic moss most moth mother motion motive
motor mound mount mountain mouse mouth move movement movie much mud muffin mug mulberry multiply
mural muscle museum mushroom music musician must mustard mystery myth nail name napkin narrow
nation native natural nature navigate near nearby nearly neat necessary neck necklace nectar
need needle neighbor neighborhood neither nephew nest net nettle network neutral never new news
newspaper next nibble nice nickel niece night nine nineteen ninety ninth noble nobody nod noise
noodle noon normal north northern nose note notebook nothing notice notion noun novel november
now nowhere number numerous nurse nursery nut nutmeg oak oar oasis oat oatmeal object oblige
oboe observe obtain obvious occasion occupy occur ocean october octopus odd off offer office
officer often oil old olive omelet once one onion only onto opal open opera opinion opportunity
opposite optical option orange orbit orchard orchestra orchid order ordinary oregano organ
organize origin original ornament ostrich other otter ought ounce our out outdoor outer outfit
outline output outside outstanding oval oven over overall overcoat overhead overlook owl own
owner oxygen oyster pace pack package paddle page pail paint painter painting pair palace pale
palm pan pancake panda panel panther pantry paper parachute parade paragraph parallel parcel
parent park parrot parsley part participate particle particular partner party pass passage
passenger past pasta paste pastry pasture patch path patience patient patrol pattern pause
pavement pavilion paw pay pea peace peaceful peach peacock peak peanut pear pearl pebble pedal
peel pen pencil penguin peninsula penny people pepper perceive percent perfect perform
performance perfume perhaps period permanent permit person personal persuade pet petal
philosophy phone photo photograph phrase physical pianist piano pick pickle picnic picture pie
piece pier pigeon pile pilgrim pillow pilot pin pine pineapple pink pioneer pipe pitch pitcher
pizza place plain plan plane planet plank plant plaster plastic plate platform play player
playful playground plaza pleasant please pleasure plenty plot plow plum plumber plural plus
pocket poem poet poetry point polar pole police policy polish polite pond pony pool popcorn
poplar poppy popular porcelain porch port portion portrait position positive possess possible
post postcard poster postman pot potato pottery pouch pound pour powder power practical practice
prairie praise prayer precious precise predict prefer prepare presence present preserve
president press pretend pretty prevent previous price pride primary prince princess principal
principle print prism private prize probable problem proceed process produce product profession
professor profile profit program progress project promise promote prompt proof proper property
propose protect proud prove proverb provide province public publish pudding puddle pull pulse
pump pumpkin punctual pupil puppet puppy purchase pure purple purpose purse pursue push put
puzzle pyramid quaint quality quantity quarry quart quarter quartet quartz queen quest question
queue quick quiet quill quilt quince quite quiz quote rabbit raccoon race radar radiant radio
radish raft rail railroad rain rainbow raincoat rainy raise raisin rake ramp ranch range rapid
rare raspberry rate rather ratio raven raw ray reach react read reader ready real realize really
reason rebuild recall receipt receive recent recipe recite recognize recommend record recover
rectangle recycle red reduce reed reef refer reflect refresh refrigerator region register
regular reindeer relate relative relax relay release reliable relief remain remark remember
remind remote remove renew rent repair repeat replace reply report represent request require
rescue research reserve reside resist resolve resource respect respond response rest restaurant
restore result retire return reveal review reward rhyme rhythm ribbon rice rich riddle ride
ridge right ring ripe ripple rise river road roast robe robin robot rock rocket role roll
romantic roof room rooster root rope rose rosemary rotate rough round route routine row royal
rub rubber ruby rudder rug rule ruler run runner rural rush rustic rye sack saddle safe safety
saffron sage sail sailor salad salary sale salmon salt salute same sample sand sandal sandcastle
sandwich sapphire satellite satin satisfy saturday sauce saucer sausage save savor saxophone say
scale scallop scarf scatter scene scenery scent schedule scheme scholar school science scientist
scissors scoop scooter scope score scout scrap scrapbook screen script scroll sculpture sea
seafood seagull seal search season seat seaweed second secret section secure see seed seek seem
segment select self sell semester send senior sense sensible sentence separate september
sequence serenade series serious serve service session set settle seven seventeen seventh
seventy several sew shade shadow shake shall shallow shape share sharp shawl she shed sheep
sheet shelf shell shelter shepherd shield shift shine shiny ship shirt shoe shop shopkeeper
shore short shoulder shout shovel show shower shrimp shrub shuffle shut shuttle shy side
sidewalk siege sight sign signal signature silence silent silk silly silver similar simple
simply since sing singer single sink sip sister sit site situation six sixteen sixth sixty size
skate sketch ski skill skin skip skirt sky skylark skyline slate sleep sleepy sleeve sleigh
slice slide slight slim slipper slope slow small smart smell smile smoke smooth snack snail snow
snowball snowflake snowman snowy soak soap soar soccer social society sock soda sofa soft soil
solar soldier sole solid solo solution solve some somebody someone something sometimes somewhere
son sonata song soon soprano sorry sort soul sound soup sour source south southern soy space
spaceship spade spark sparkle sparrow speak special species speech speed spell spend sphere
spice spider spin spinach spiral spirit splash splendid split sponge spoon sport spot spray
spread spring sprinkle sprout spruce square squash squeeze squirrel stable stadium staff stage
stair staircase stamp stand standard star stare starfish start state statement station statue
stay steady steam steel steep steer stem step stew stick still stir stitch stock stocking stone
stool stop storage store stork storm story stove straight strange straw strawberry stream street
strength stretch string stripe stroll strong structure student studio study style subject
substance suburb subway succeed success such sudden sugar suggest suit suitcase sum summary
summer summit sun sunday sunflower sunlight sunny sunrise sunset sunshine superb supper supply
support suppose sure surf surface surprise surround survey swallow swan swap sweater sweep sweet
swift swim swimmer swing switch sycamore syllable symbol symmetry sympathy symphony syrup system
table tablecloth tablet tail tailor take tale talent talk tall tambourine tangerine tank tap
tape target task taste tasty tax taxi tea teach teacher team teapot tear technique technology
teddy telegram telephone telescope television tell temper temperature temple ten tenant tend
tennis tent tenth term terrace terrific territory test text textbook than thank thanks that
theater their them theme then theory there these they thick thimble thin thing think third
thirsty thirteen thirty this thistle thorn thorough those though thought thousand thread three
thrill thrive throat throne through throughout throw thumb thunder thursday thus thyme ticket
tide tidy tie tiger tight tile till timber time timid tin tiny tip tire title toast today toe
together token tomato tomorrow ton tone tongue tonight too tool tooth toothbrush top topaz topic
torch tortoise total touch tour tourist toward towel tower town toy trace track tractor trade
tradition traffic trail train transfer transform translate transparent transport travel traveler
tray treasure treat tree treetop trend triangle tribute trick tricycle trim trip triumph
trombone trophy tropical trot trout truck true trumpet trunk trust truth try tube tuesday tug
tulip tumble tuna tune tunnel turkey turn turnip turquoise turtle tutor twelfth twelve twenty
twice twig twilight twin twinkle twirl twist two type typewriter typical ukulele umbrella uncle
under underline underneath understand undertake uniform union unique unit unite unity universe
university unknown unless until unusual unwrap upon upper upright upset upside upstairs upward
urban urge use useful usher usual utensil utter vacation vacuum valley valuable value van
vanilla vanish vapor variety various varnish vary vase vast vault vegetable vehicle veil velvet
vendor venture verb verify verse version vertical very vessel vest veteran via vibrant victory
video view village vine vinegar vineyard violet violin visible vision visit visitor visual vital
vivid vocabulary voice volcano volleyball volume volunteer vote vowel voyage waffle wage wagon
waist wait waiter wake walk wall wallet walnut waltz wander want warbler wardrobe warm warmth
wash watch water watercolor waterfall watermelon wave wax way weak wealth wear weather weave
wedding wednesday week weekend weekly weigh weight welcome well west western wet whale wharf
what whatever wheat wheel when whenever where wherever whether which while whisker whisper
whistle white who whole whose why wicker wide width wife wild wilderness will willing willow win
wind windmill window windy wing winner winter wipe wire wisdom wise wish with within without
witness wizard wolf wonder wonderful wood wooden woodland woodpecker wool word work worker
workshop world worm worth would wrap wreath wren wrist write writer yacht yard yarn year yearly
yeast yellow yes yesterday yet yogurt yolk you young your youth zebra zero zigzag zinc zipper
zone zoo zoom]]

setmetatable(words, {
  __index = function(_, key)
    if key ~= "list" then return nil end
    local list = {}
    for word in text:gmatch("%a+") do
      list[#list + 1] = word
    end
    words.list = list
    return list
  end,
})

local function source_from(seed)
  local list, uniform = words.list, random.source(seed)
  return function()
    return list[math.floor(uniform() * #list) + 1]
  end
end

local shared_source

--- A function that returns the next random word at each call. `seed`: a number or a string, such as
--- a prompt; without one the words differ each time.
function words.source(seed)
  if seed ~= nil then return source_from(seed) end
  if not shared_source then
    local bytes = ffi.new("char[8]")
    base.C.lw_api_random(bytes, 8)
    shared_source = source_from(ffi.string(bytes, 8))
  end
  return shared_source
end

--- From now on the words that differ each time are those of this seed.
function words.seed(seed)
  shared_source = source_from(seed)
end

--- `n` random words with spaces between, at most a million.
function words.sample(n, seed)
  if type(n) ~= "number" or n ~= n or n > SAMPLE_MOST then
    error("words.sample: expected a number up to 1000000, got " .. base.show(n), 2)
  end
  local next_word = words.source(seed)
  local out = {}
  for i = 1, n do
    out[i] = next_word()
  end
  return table.concat(out, " ")
end

--- One random word.
function words.random_word()
  return words.source()()
end

return words

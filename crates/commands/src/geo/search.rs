//! Members near a position: GEOSEARCH and its older forms.
//!
//! All of them are read into a [`Search`]; then the cells around the center are gone through, in
//! the order of Redis, which shows where nothing is sorted.

use datatypes::geo::{Position, Shape};
use datatypes::{number, Element, IntBuffer, ScoreBound, SortedSet};
use resp::{Argv, Reply};

use super::{
    position, position_of, reply_distance, reply_position, score_as_integer, unit, READER,
};
use crate::args;
use crate::command::{Command, Deprecated, Flags, Run};
use crate::context::Ctx;
use crate::elements;
use crate::errors::{
    before_zero_byte, CommandError, CommandResult, GEO_ANY_WITHOUT_COUNT, GEO_BOX_NEGATIVE,
    GEO_COUNT_NOT_POSITIVE, GEO_HEIGHT_INVALID, GEO_MEMBER_INVALID, GEO_RADIUS_INVALID,
    GEO_RADIUS_NEGATIVE, GEO_SEARCHSTORE_AND_WITH, GEO_STORE_AND_WITH, GEO_WIDTH_INVALID, SYNTAX,
};
use crate::key_spec::{Begin, Find, KeySpec};
use crate::sorted_sets::store_at;

const SEARCH_COMPLEXITY: &str =
    "O(N+log(M)) with the number N of members in the cells around the shape, of M in the set";

pub const COMMANDS: &[Command] = &[
    Command {
        name: "geosearch",
        summary: "Replies the members within a circle or a box.",
        since: "6.2.0",
        complexity: SEARCH_COMPLEXITY,
        arity: -7,
        syntax: "key <FROMMEMBER member | FROMLONLAT longitude latitude> <BYRADIUS radius <M | KM | FT | MI> | BYBOX width height <M | KM | FT | MI>> [ASC | DESC] [COUNT count [ANY]] [WITHCOORD] [WITHDIST] [WITHHASH]",
        run: Run::Keys(geosearch),
        ..READER
    },
    Command {
        name: "geosearchstore",
        summary: "Stores the members within a circle or a box.",
        since: "6.2.0",
        complexity: SEARCH_COMPLEXITY,
        arity: -8,
        flags: Flags::WRITE.union(Flags::DENYOOM),
        keys: &[
            KeySpec::at(1, &["OW", "update"]),
            KeySpec::at(2, &["RO", "access"]),
        ],
        syntax: "destination source <FROMMEMBER member | FROMLONLAT longitude latitude> <BYRADIUS radius <M | KM | FT | MI> | BYBOX width height <M | KM | FT | MI>> [ASC | DESC] [COUNT count [ANY]] [STOREDIST]",
        run: Run::Keys(geosearchstore),
        ..READER
    },
    Command {
        name: "georadius",
        summary: "Replies or stores the members within a circle around a position.",
        arity: -6,
        flags: Flags::WRITE.union(Flags::DENYOOM),
        keys: &[
            KeySpec::at(1, &["RO", "access"]),
            stored_behind("STORE", 6),
            stored_behind("STOREDIST", 6),
        ],
        keys_in: Some(keys_with_store),
        syntax: "key longitude latitude radius <M | KM | FT | MI> [WITHCOORD] [WITHDIST] [WITHHASH] [COUNT count [ANY]] [ASC | DESC] [STORE key | STOREDIST key]",
        run: Run::Keys(georadius),
        deprecated: Some(Deprecated {
            since: "6.2.0",
            replaced_by: "`GEOSEARCH` and `GEOSEARCHSTORE` with the `BYRADIUS` argument",
        }),
        ..OLD
    },
    Command {
        name: "georadius_ro",
        summary: "Replies the members within a circle around a position.",
        since: "3.2.10",
        arity: -6,
        syntax: "key longitude latitude radius <M | KM | FT | MI> [WITHCOORD] [WITHDIST] [WITHHASH] [COUNT count [ANY]] [ASC | DESC]",
        run: Run::Keys(georadius_ro),
        deprecated: Some(Deprecated {
            since: "6.2.0",
            replaced_by: "`GEOSEARCH` with the `BYRADIUS` argument",
        }),
        ..OLD
    },
    Command {
        name: "georadiusbymember",
        summary: "Replies or stores the members within a circle around a member.",
        arity: -5,
        flags: Flags::WRITE.union(Flags::DENYOOM),
        keys: &[
            KeySpec::at(1, &["RO", "access"]),
            stored_behind("STORE", 5),
            stored_behind("STOREDIST", 5),
        ],
        keys_in: Some(keys_with_store),
        syntax: "key member radius <M | KM | FT | MI> [WITHCOORD] [WITHDIST] [WITHHASH] [COUNT count [ANY]] [ASC | DESC] [STORE key | STOREDIST key]",
        run: Run::Keys(georadiusbymember),
        deprecated: Some(Deprecated {
            since: "6.2.0",
            replaced_by: "`GEOSEARCH` and `GEOSEARCHSTORE` with the `BYRADIUS` and `FROMMEMBER` arguments",
        }),
        ..OLD
    },
    Command {
        name: "georadiusbymember_ro",
        summary: "Replies the members within a circle around a member.",
        since: "3.2.10",
        arity: -5,
        syntax: "key member radius <M | KM | FT | MI> [WITHCOORD] [WITHDIST] [WITHHASH] [COUNT count [ANY]] [ASC | DESC]",
        run: Run::Keys(georadiusbymember_ro),
        deprecated: Some(Deprecated {
            since: "6.2.0",
            replaced_by: "`GEOSEARCH` with the `BYRADIUS` and `FROMMEMBER` arguments",
        }),
        ..OLD
    },
];

const OLD: Command = Command {
    complexity: SEARCH_COMPLEXITY,
    ..READER
};

const fn stored_behind(word: &'static str, from: i32) -> KeySpec {
    KeySpec {
        flags: &["OW", "update"],
        begin: Begin::Keyword { word, from },
        find: Find::Range {
            last: 0,
            step: 1,
            limit: 0,
        },
        notes: "",
    }
}

/// The keys of GEORADIUS and GEORADIUSBYMEMBER: of several STORE options the last one counts.
fn keys_with_store(argv: Argv<'_>, f: &mut dyn FnMut(usize, &'static [&'static str])) -> bool {
    /// Where options can begin.
    const OPTIONS_AT: usize = 5;
    if argv.len() > 1 {
        f(1, &["RO", "access"]);
    }
    let (mut stored, mut i) = (None, OPTIONS_AT);
    while i + 1 < argv.len() {
        if args::is(argv.arg(i), "store") || args::is(argv.arg(i), "storedist") {
            stored = Some(i + 1);
            i += 1;
        }
        i += 1;
    }
    if let Some(index) = stored {
        f(index, &["OW", "update"]);
    }
    true
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// GEOSEARCH.
    Search,
    /// GEOSEARCHSTORE.
    SearchStore,
    /// GEORADIUS and GEORADIUSBYMEMBER.
    Radius,
    /// These with `_RO`.
    RadiusReadOnly,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    Unsorted,
    Nearest,
    Farthest,
}

#[derive(Clone, Copy)]
enum Center {
    LonLat(Position),
    Member(Position),
    /// A member of a set that is not there.
    Nowhere,
}

/// A shape in meters, and the meters of the unit that distances are given in.
#[derive(Clone, Copy)]
struct Sized {
    shape: Shape,
    unit: f64,
}

struct Search {
    form: Form,
    center: Option<Center>,
    sized: Option<Sized>,
    order: Order,
    /// 0: all of them.
    count: usize,
    /// So many members that were found first will do.
    any: bool,
    with_coord: bool,
    with_dist: bool,
    with_hash: bool,
    /// The argument that is the key to store at.
    store_at: Option<usize>,
    /// What is stored is the distance.
    store_dist: bool,
}

fn center_of_member(set: Option<&SortedSet>, member: &[u8]) -> Result<Center, CommandError> {
    if set.is_none() {
        return Ok(Center::Nowhere);
    }
    let position = position_of(set, member).ok_or(GEO_MEMBER_INVALID)?;
    Ok(Center::Member(position))
}

fn circle(radius: &[u8], unit_name: &[u8]) -> Result<Sized, CommandError> {
    let radius = number::parse_f64(radius).ok_or(GEO_RADIUS_INVALID)?;
    if radius < 0.0 {
        return Err(GEO_RADIUS_NEGATIVE);
    }
    let unit = unit(unit_name)?;
    Ok(Sized {
        shape: Shape::Circle {
            radius: radius * unit,
        },
        unit,
    })
}

fn rectangle(width: &[u8], height: &[u8], unit_name: &[u8]) -> Result<Sized, CommandError> {
    let width = number::parse_f64(width).ok_or(GEO_WIDTH_INVALID)?;
    let height = number::parse_f64(height).ok_or(GEO_HEIGHT_INVALID)?;
    if width < 0.0 || height < 0.0 {
        return Err(GEO_BOX_NEGATIVE);
    }
    let unit = unit(unit_name)?;
    Ok(Sized {
        shape: Shape::Box {
            width: width * unit,
            height: height * unit,
        },
        unit,
    })
}

impl Search {
    fn new(form: Form) -> Search {
        Search {
            form,
            center: None,
            sized: None,
            order: Order::Unsorted,
            count: 0,
            any: false,
            with_coord: false,
            with_dist: false,
            with_hash: false,
            store_at: (form == Form::SearchStore).then_some(1),
            store_dist: false,
        }
    }

    /// Reads the options from an argument on. The set is the one that is searched.
    fn read_options(
        &mut self,
        argv: Argv<'_>,
        first: usize,
        set: Option<&SortedSet>,
    ) -> CommandResult {
        let mut i = first;
        while let Some(word) = argv.get(i) {
            let left = argv.len() - i - 1;
            i += 1;
            match word {
                _ if args::is(word, "withdist") => self.with_dist = true,
                _ if args::is(word, "withhash") => self.with_hash = true,
                _ if args::is(word, "withcoord") => self.with_coord = true,
                _ if args::is(word, "any") => self.any = true,
                _ if args::is(word, "asc") => self.order = Order::Nearest,
                _ if args::is(word, "desc") => self.order = Order::Farthest,
                _ if args::is(word, "count") && left > 0 => {
                    let count = usize::try_from(args::integer(argv.arg(i))?).ok();
                    let count = count.filter(|count| *count > 0);
                    self.count = count.ok_or(GEO_COUNT_NOT_POSITIVE)?;
                    i += 1;
                }
                _ => {
                    i += match self.form {
                        Form::Search | Form::SearchStore => {
                            self.read_search_option(word, argv.from(i), set)?
                        }
                        Form::Radius => self.read_store_option(word, i, left)?,
                        Form::RadiusReadOnly => return Err(SYNTAX),
                    }
                }
            }
        }
        Ok(())
    }

    /// An option of GEOSEARCH or GEOSEARCHSTORE alone. Returns how many arguments belong to it.
    fn read_search_option(
        &mut self,
        word: &[u8],
        values: Argv<'_>,
        set: Option<&SortedSet>,
    ) -> Result<usize, CommandError> {
        let left = values.len();
        let by_member = matches!(self.center, Some(Center::Member(_) | Center::Nowhere));
        let by_lonlat = matches!(self.center, Some(Center::LonLat(_)));
        let shape = self.sized.map(|sized| sized.shape);
        match word {
            _ if args::is(word, "frommember") && left > 0 && !by_lonlat => {
                self.center = Some(center_of_member(set, values.arg(0))?);
                Ok(1)
            }
            _ if args::is(word, "fromlonlat") && left > 1 && !by_member => {
                self.center = Some(Center::LonLat(position(values.arg(0), values.arg(1))?));
                Ok(2)
            }
            _ if args::is(word, "byradius")
                && left > 1
                && !matches!(shape, Some(Shape::Box { .. })) =>
            {
                self.sized = Some(circle(values.arg(0), values.arg(1))?);
                Ok(2)
            }
            _ if args::is(word, "bybox")
                && left > 2
                && !matches!(shape, Some(Shape::Circle { .. })) =>
            {
                self.sized = Some(rectangle(values.arg(0), values.arg(1), values.arg(2))?);
                Ok(3)
            }
            _ if args::is(word, "storedist") && self.form == Form::SearchStore => {
                self.store_dist = true;
                Ok(0)
            }
            _ => Err(SYNTAX),
        }
    }

    /// STORE or STOREDIST, with the key at an argument.
    fn read_store_option(
        &mut self,
        word: &[u8],
        key_at: usize,
        left: usize,
    ) -> Result<usize, CommandError> {
        let is_dist = args::is(word, "storedist");
        if left == 0 || !is_dist && !args::is(word, "store") {
            return Err(SYNTAX);
        }
        (self.store_at, self.store_dist) = (Some(key_at), is_dist);
        Ok(1)
    }

    /// What options may not be without each other, or with each other.
    fn check(&mut self, name: &[u8]) -> CommandResult {
        if self.store_at.is_some() && (self.with_dist || self.with_hash || self.with_coord) {
            return Err(match self.form {
                Form::SearchStore => GEO_SEARCHSTORE_AND_WITH,
                _ => GEO_STORE_AND_WITH,
            });
        }
        if self.center.is_none() {
            return Err(exactly_one("FROMMEMBER or FROMLONLAT", name));
        }
        if self.sized.is_none() {
            return Err(exactly_one("BYRADIUS and BYBOX", name));
        }
        if self.any && self.count == 0 {
            return Err(GEO_ANY_WITHOUT_COUNT);
        }
        if self.count > 0 && self.order == Order::Unsorted && !self.any {
            self.order = Order::Nearest;
        }
        Ok(())
    }
}

fn exactly_one(options: &str, name: &[u8]) -> CommandError {
    let name = String::from_utf8_lossy(before_zero_byte(name));
    format!("ERR exactly one of {options} can be specified for {name}").into()
}

/// A member within the shape.
struct Found<'e> {
    member: Element<'e>,
    score: f64,
    /// In meters.
    distance: f64,
    position: Position,
}

/// The members within a shape around a center, as many as are wanted.
fn members_within<'e>(
    search: &Search,
    set: &'e SortedSet,
    center: Position,
    shape: Shape,
) -> Vec<Found<'e>> {
    let enough = if search.any { search.count } else { usize::MAX };
    let mut found = Vec::new();
    'cells: for range in shape.ranges(center) {
        let from = ScoreBound {
            score: range.start as f64,
            exclusive: false,
        };
        let to = ScoreBound {
            score: range.end as f64,
            exclusive: true,
        };
        for (member, score) in set.range(set.ranks_by_score(from, to)) {
            let position = Position::from_score(score);
            if let Some(distance) = shape.reach(center, position) {
                found.push(Found {
                    member,
                    score,
                    distance,
                    position,
                });
                if found.len() >= enough {
                    break 'cells;
                }
            }
        }
    }
    match search.order {
        Order::Unsorted => {}
        Order::Nearest => found.sort_by(|a, b| a.distance.total_cmp(&b.distance)),
        Order::Farthest => found.sort_by(|a, b| b.distance.total_cmp(&a.distance)),
    }
    if search.count > 0 {
        found.truncate(search.count);
    }
    found
}

fn run(
    c: &mut Ctx<'_, '_>,
    form: Form,
    source: usize,
    options_at: usize,
    begin: impl FnOnce(&mut Search, Option<&SortedSet>) -> CommandResult,
) -> CommandResult {
    let key = c.key(source);
    c.keys.read_sorted_set(key)?;
    let set = c.keys.peek_sorted_set(key)?;
    let mut search = Search::new(form);
    begin(&mut search, set)?;
    search.read_options(c.argv, options_at, set)?;
    search.check(c.argv.arg(0))?;
    let Sized { shape, unit } = search.sized.expect("it was checked");
    let found = match (set, search.center) {
        (Some(set), Some(Center::LonLat(center) | Center::Member(center))) => {
            members_within(&search, set, center, shape)
        }
        _ => Vec::new(),
    };
    let Some(destination) = search.store_at else {
        reply_found(&mut c.reply, &search, &found, unit);
        return Ok(());
    };
    let mut result = SortedSet::new();
    for item in &found {
        let score = if search.store_dist {
            item.distance / unit
        } else {
            item.score
        };
        result.insert(item.member.as_bytes(&mut IntBuffer::new()), score, c.limits);
    }
    let event = match form {
        Form::Search | Form::SearchStore => "geosearchstore",
        Form::Radius | Form::RadiusReadOnly => "georadiusstore",
    };
    let changes = result.len() as u64;
    store_at(c, destination, result, event, changes)
}

fn reply_found(reply: &mut Reply<'_>, search: &Search, found: &[Found<'_>], unit: f64) {
    let flags = [search.with_dist, search.with_hash, search.with_coord];
    let parts = 1 + flags.iter().filter(|flag| **flag).count();
    reply.array(found.len());
    for item in found {
        if parts > 1 {
            reply.array(parts);
        }
        elements::bulk(reply, item.member);
        if search.with_dist {
            reply_distance(reply, item.distance / unit);
        }
        if search.with_hash {
            reply.integer(score_as_integer(item.score));
        }
        if search.with_coord {
            reply_position(reply, item.position);
        }
    }
}

fn geosearch(c: &mut Ctx<'_, '_>) -> CommandResult {
    run(c, Form::Search, 1, 2, |_, _| Ok(()))
}

fn geosearchstore(c: &mut Ctx<'_, '_>) -> CommandResult {
    run(c, Form::SearchStore, 2, 3, |_, _| Ok(()))
}

fn around_position(c: &mut Ctx<'_, '_>, form: Form) -> CommandResult {
    let argv = c.argv;
    run(c, form, 1, 6, |search, _| {
        search.center = Some(Center::LonLat(position(argv.arg(2), argv.arg(3))?));
        search.sized = Some(circle(argv.arg(4), argv.arg(5))?);
        Ok(())
    })
}

fn around_member(c: &mut Ctx<'_, '_>, form: Form) -> CommandResult {
    let argv = c.argv;
    run(c, form, 1, 5, |search, set| {
        search.center = Some(center_of_member(set, argv.arg(2))?);
        search.sized = Some(match set {
            Some(_) => circle(argv.arg(3), argv.arg(4))?,
            // Redis does not look at the radius when there is nothing to search.
            None => Sized {
                shape: Shape::Circle { radius: 0.0 },
                unit: 1.0,
            },
        });
        Ok(())
    })
}

fn georadius(c: &mut Ctx<'_, '_>) -> CommandResult {
    around_position(c, Form::Radius)
}

fn georadius_ro(c: &mut Ctx<'_, '_>) -> CommandResult {
    around_position(c, Form::RadiusReadOnly)
}

fn georadiusbymember(c: &mut Ctx<'_, '_>) -> CommandResult {
    around_member(c, Form::Radius)
}

fn georadiusbymember_ro(c: &mut Ctx<'_, '_>) -> CommandResult {
    around_member(c, Form::RadiusReadOnly)
}

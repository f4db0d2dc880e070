//! Positions on the earth as 52 bits, and the cells that a search looks at.
//!
//! A position is halved into cells 26 times in each direction; the bits of both directions, latitude's in the even
//! places, make one number, and all positions of a cell of any size lie between two numbers. Latitudes reach as far
//! as the Mercator projection does. Geohash strings are the same idea over the whole range of latitudes. All distances
//! are along a sphere (haversine).

use std::ops::Range;

pub const LONGITUDE_MAX: f64 = 180.0;
pub const LATITUDE_MAX: f64 = 85.051_128_78;
const EARTH_RADIUS_METERS: f64 = 6_372_797.560_856;
/// Half of the projected equator.
const MERCATOR_MAX: f64 = 20_037_726.37;
/// Halvings in each direction.
const STEPS_MAX: u32 = 26;

/// Degrees.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Position {
    pub longitude: f64,
    pub latitude: f64,
}

impl Position {
    /// A position that has a number.
    pub fn new(longitude: f64, latitude: f64) -> Option<Position> {
        let inside = longitude.abs() <= LONGITUDE_MAX && latitude.abs() <= LATITUDE_MAX;
        inside.then_some(Position {
            longitude,
            latitude,
        })
    }

    /// The 52 bits, which a double holds exactly.
    pub fn bits(self) -> u64 {
        Cell::around(self, STEPS_MAX, LATITUDE_MAX).bits()
    }

    /// The middle of the smallest cell of a number.
    pub fn from_bits(bits: u64) -> Position {
        Cell::from_bits(bits, STEPS_MAX).area().middle()
    }

    /// As [`Position::from_bits`], of a score, which need not come from [`Position::bits`].
    pub fn from_score(score: f64) -> Position {
        Position::from_bits(bits_of_score(score))
    }

    /// The 11 characters of the Geohash standard, of which the last says nothing.
    pub fn geohash(self) -> [u8; 11] {
        const ALPHABET: &[u8; 32] = b"0123456789bcdefghjkmnpqrstuvwxyz";
        const STANDARD_LATITUDE_MAX: f64 = 90.0;
        let bits = Cell::around(self, STEPS_MAX, STANDARD_LATITUDE_MAX).bits();
        let mut text = [ALPHABET[0]; 11];
        for (index, letter) in text[..10].iter_mut().enumerate() {
            let shift = 2 * STEPS_MAX as usize - 5 * (index + 1);
            *letter = ALPHABET[(bits >> shift) as usize & 0x1f];
        }
        text
    }

    /// Meters between two positions.
    pub fn distance(self, other: Position) -> f64 {
        let (a, b) = (self.longitude.in_radians(), other.longitude.in_radians());
        let v = ((b - a) / 2.0).sin();
        if v == 0.0 {
            return latitude_distance(self.latitude, other.latitude);
        }
        let (a, b) = (self.latitude.in_radians(), other.latitude.in_radians());
        let u = ((b - a) / 2.0).sin();
        let h = u * u + a.cos() * b.cos() * v * v;
        2.0 * EARTH_RADIUS_METERS * h.sqrt().asin()
    }
}

fn latitude_distance(a: f64, b: f64) -> f64 {
    EARTH_RADIUS_METERS * (b.in_radians() - a.in_radians()).abs()
}

/// Degrees and radians, rounded as Redis rounds them, which decides the last digits of distances.
trait Angle {
    fn in_radians(self) -> f64;
    fn in_degrees(self) -> f64;
}

const RADIANS_PER_DEGREE: f64 = std::f64::consts::PI / 180.0;

impl Angle for f64 {
    fn in_radians(self) -> f64 {
        self * RADIANS_PER_DEGREE
    }

    fn in_degrees(self) -> f64 {
        self / RADIANS_PER_DEGREE
    }
}

/// A score as bits; the scores that no position has become what x86 makes of them.
fn bits_of_score(score: f64) -> u64 {
    const TOP: f64 = (1_u64 << 63) as f64;
    if score < TOP {
        return score as i64 as u64;
    }
    let rest = score - TOP;
    let low = if rest < TOP { rest as u64 } else { 1 << 63 };
    low ^ 1 << 63
}

/// A cell after so many halvings: its place in rows and columns. A position at the very end of a range lies one
/// beyond the last cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cell {
    column: u32,
    row: u32,
    steps: u32,
}

impl Cell {
    fn around(position: Position, steps: u32, latitude_max: f64) -> Cell {
        let cells = (1_u64 << steps) as f64;
        let place = |value: f64, max: f64| ((value + max) / (max + max) * cells) as u32;
        Cell {
            column: place(position.longitude, LONGITUDE_MAX),
            row: place(position.latitude, latitude_max),
            steps,
        }
    }

    fn bits(self) -> u64 {
        spread(self.row) | spread(self.column) << 1
    }

    fn from_bits(bits: u64, steps: u32) -> Cell {
        Cell {
            column: gather(bits >> 1),
            row: gather(bits),
            steps,
        }
    }

    /// The cell so many columns to the east and rows to the north; beyond an edge comes the other one.
    fn beside(self, east: i32, north: i32) -> Cell {
        let mask = (1_u32 << self.steps) - 1;
        let moved = |place: u32, by: i32| match by {
            0 => place,
            by => place.wrapping_add_signed(by) & mask,
        };
        Cell {
            column: moved(self.column, east),
            row: moved(self.row, north),
            steps: self.steps,
        }
    }

    fn area(self) -> Area {
        let cells = (1_u64 << self.steps) as f64;
        let edge = |place: u64, max: f64| -max + place as f64 / cells * (max + max);
        let (column, row) = (u64::from(self.column), u64::from(self.row));
        Area {
            west: edge(column, LONGITUDE_MAX),
            east: edge(column + 1, LONGITUDE_MAX),
            south: edge(row, LATITUDE_MAX),
            north: edge(row + 1, LATITUDE_MAX),
        }
    }

    /// The numbers of the positions within.
    fn range(self) -> Range<u64> {
        let shift = 2 * (STEPS_MAX - self.steps);
        let bits = self.bits();
        bits << shift..(bits + 1) << shift
    }
}

/// Puts zeros between the bits of a number.
fn spread(value: u32) -> u64 {
    let mut bits = u64::from(value);
    for (shift, mask) in [
        (16, 0x0000_ffff_0000_ffff),
        (8, 0x00ff_00ff_00ff_00ff),
        (4, 0x0f0f_0f0f_0f0f_0f0f),
        (2, 0x3333_3333_3333_3333),
        (1, 0x5555_5555_5555_5555),
    ] {
        bits = (bits | bits << shift) & mask;
    }
    bits
}

/// Every other bit of a number, from the lowest on.
fn gather(bits: u64) -> u32 {
    let mut bits = bits & 0x5555_5555_5555_5555;
    for (shift, mask) in [
        (1, 0x3333_3333_3333_3333),
        (2, 0x0f0f_0f0f_0f0f_0f0f),
        (4, 0x00ff_00ff_00ff_00ff),
        (8, 0x0000_ffff_0000_ffff),
        (16, 0x0000_0000_ffff_ffff),
    ] {
        bits = (bits | bits >> shift) & mask;
    }
    bits as u32
}

/// The edges of a cell, or of what a search is about; the latter may reach beyond the ranges.
#[derive(Clone, Copy, Debug)]
struct Area {
    west: f64,
    east: f64,
    south: f64,
    north: f64,
}

impl Area {
    fn middle(self) -> Position {
        let middle = |a: f64, b: f64, max: f64| ((a + b) / 2.0).clamp(-max, max);
        Position {
            longitude: middle(self.west, self.east, LONGITUDE_MAX),
            latitude: middle(self.south, self.north, LATITUDE_MAX),
        }
    }
}

/// What a search finds, around its center; in meters.
#[derive(Clone, Copy, Debug)]
pub enum Shape {
    Circle { radius: f64 },
    Box { width: f64, height: f64 },
}

impl Shape {
    /// The distance of a position from the center, if it lies within.
    pub fn reach(self, center: Position, position: Position) -> Option<f64> {
        match self {
            Shape::Circle { radius } => {
                let distance = center.distance(position);
                (distance <= radius).then_some(distance)
            }
            Shape::Box { width, height } => {
                let beside = Position {
                    longitude: center.longitude,
                    ..position
                };
                let within = latitude_distance(position.latitude, center.latitude) <= height / 2.0
                    && position.distance(beside) <= width / 2.0;
                within.then(|| center.distance(position))
            }
        }
    }

    /// Meters from the center within which everything lies.
    fn radius(self) -> f64 {
        match self {
            Shape::Circle { radius } => radius,
            Shape::Box { width, height } => {
                ((width / 2.0) * (width / 2.0) + (height / 2.0) * (height / 2.0)).sqrt()
            }
        }
    }

    fn bounds(self, center: Position) -> Area {
        let (half_width, half_height) = match self {
            Shape::Circle { radius } => (radius, radius),
            Shape::Box { width, height } => (width / 2.0, height / 2.0),
        };
        let Position {
            longitude,
            latitude,
        } = center;
        let up = (half_height / EARTH_RADIUS_METERS).in_degrees();
        // Degrees of longitude are shortest on the side that is nearer to a pole.
        let shortest = if latitude < 0.0 {
            latitude - up
        } else {
            latitude + up
        };
        let aside = half_width / EARTH_RADIUS_METERS / shortest.in_radians().cos();
        let aside = aside.in_degrees();
        Area {
            west: longitude - aside,
            east: longitude + aside,
            south: latitude - up,
            north: latitude + up,
        }
    }

    /// The numbers to look at: those of the cell of the center and of the cells around it, as far as the shape
    /// reaches into them, in the order in which Redis looks at them.
    pub fn ranges(self, center: Position) -> Vec<Range<u64>> {
        let bounds = self.bounds(center);
        let mut steps = steps_for(self.radius(), center.latitude);
        let mut cell = Cell::around(center, steps, LATITUDE_MAX);
        let falls_short = cell.beside(0, 1).area().north < bounds.north
            || cell.beside(0, -1).area().south > bounds.south
            || cell.beside(1, 0).area().east < bounds.east
            || cell.beside(-1, 0).area().west > bounds.west;
        if steps > 1 && falls_short {
            steps -= 1;
            cell = Cell::around(center, steps, LATITUDE_MAX);
        }
        let area = cell.area();
        let is_useful = |east: i32, north: i32| {
            steps < 2
                || !(north < 0 && area.south < bounds.south
                    || north > 0 && area.north > bounds.north
                    || east < 0 && area.west < bounds.west
                    || east > 0 && area.east > bounds.east)
        };
        let around = [
            (0, 0),
            (0, 1),
            (0, -1),
            (1, 0),
            (-1, 0),
            (1, 1),
            (-1, 1),
            (1, -1),
            (-1, -1),
        ];
        let useful = around
            .into_iter()
            .filter(|&(east, north)| is_useful(east, north));
        let mut cells: Vec<Cell> = useful
            .map(|(east, north)| cell.beside(east, north))
            .collect();
        // With few cells on the whole earth, several neighbours are the same one.
        cells.dedup();
        cells.into_iter().map(Cell::range).collect()
    }
}

/// How often to halve so that the cells around a center cover a radius.
fn steps_for(radius: f64, latitude: f64) -> u32 {
    if radius == 0.0 {
        return STEPS_MAX;
    }
    let (mut reach, mut steps) = (radius, 1_i32);
    while reach < MERCATOR_MAX {
        reach *= 2.0;
        steps += 1;
    }
    steps -= 2;
    // Towards the poles the cells become narrower.
    steps -= i32::from(latitude.abs() > 66.0) + i32::from(latitude.abs() > 80.0);
    steps.clamp(1, STEPS_MAX as i32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;

    fn random_position(rng: &mut Rng) -> Position {
        let within = |rng: &mut Rng, max: f64| (rng.unit_f64() * 2.0 - 1.0) * max;
        let (longitude, latitude) = (within(rng, LONGITUDE_MAX), within(rng, LATITUDE_MAX));
        Position::new(longitude, latitude).expect("it is within the ranges")
    }

    #[test]
    fn known_places_have_known_numbers() {
        let palermo = Position::new(13.361389, 38.115556).expect("it is a place");
        let catania = Position::new(15.087269, 37.502669).expect("it is a place");
        assert_eq!(palermo.bits(), 3_479_099_956_230_698);
        assert_eq!(catania.bits(), 3_479_447_370_796_909);
        let [palermo, catania] = [palermo, catania].map(|place| Position::from_bits(place.bits()));
        assert_eq!(&palermo.geohash(), b"sqc8b49rny0");
        assert_eq!(&catania.geohash(), b"sqdtr74hyu0");
        assert_eq!(format!("{:.4}", palermo.distance(catania)), "166274.1516");
        assert_eq!(Position::new(0.0, 86.0), None);
        assert_eq!(Position::new(f64::INFINITY, 0.0), None);
    }

    #[test]
    fn numbers_lead_back_to_their_place() {
        let mut rng = Rng::from_seed(5);
        for _ in 0..2000 {
            let place = random_position(&mut rng);
            let back = Position::from_bits(place.bits());
            assert!(place.distance(back) < 0.6, "{place:?}");
            assert_eq!(back.bits(), place.bits());
        }
        for score in [-1.0, 1e300, f64::INFINITY, f64::NEG_INFINITY, 1e19, 1.8e19] {
            let place = Position::from_score(score);
            assert!(
                Position::new(place.longitude, place.latitude).is_some(),
                "{score}"
            );
        }
    }

    #[test]
    fn searches_away_from_the_edges_look_wherever_something_is() {
        let mut rng = Rng::from_seed(6);
        for _ in 0..3000 {
            let center = random_position(&mut rng);
            let center = Position {
                longitude: center.longitude / 2.0,
                latitude: center.latitude / 2.0,
            };
            let size = 10_f64.powf(rng.unit_f64() * 6.0);
            let shape = match rng.below(2) {
                0 => Shape::Circle { radius: size },
                _ => Shape::Box {
                    width: size,
                    height: size * rng.unit_f64(),
                },
            };
            let degrees = |rng: &mut Rng| (rng.unit_f64() - 0.5) * size / 40_000.0;
            let place = Position::new(
                center.longitude + degrees(&mut rng),
                center.latitude + degrees(&mut rng),
            );
            let place = Position::from_bits(place.expect("it is not far away").bits());
            if shape.reach(center, place).is_some() {
                let ranges = shape.ranges(center);
                assert!(
                    ranges.iter().any(|range| range.contains(&place.bits())),
                    "{center:?} {shape:?} {place:?}"
                );
            }
        }
    }
}

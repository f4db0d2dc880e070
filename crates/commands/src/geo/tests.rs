//! Effects, and sets in different shards.

use crate::testing::World;

fn sicily(shards: u16) -> World {
    let mut w = World::new(shards);
    w.check(&[(
        "GEOADD Sicily 13.361389 38.115556 Palermo 15.087269 37.502669 Catania 13.583333 37.316667 Agrigento",
        "3",
    )]);
    w
}

#[test]
fn members_are_scored_and_measured_as_everywhere() {
    sicily(1).check(&[
        ("ZSCORE Sicily Palermo", "\"3479099956230698\""),
        ("GEODIST Sicily Palermo Catania km", "\"166.2742\""),
        (
            "GEOPOS Sicily Palermo x",
            "[[\"13.36138933897018433\", \"38.11555639549629859\"], nil-array]",
        ),
        (
            "GEOSEARCH Sicily FROMLONLAT 15 37 BYRADIUS 200 km ASC",
            "[\"Catania\", \"Agrigento\", \"Palermo\"]",
        ),
    ]);
}

#[test]
fn what_is_found_is_stored_in_any_shard() {
    for shards in [1, 3, 8] {
        let mut w = sicily(shards);
        w.check(&[
            (
                "GEOSEARCHSTORE found Sicily FROMMEMBER Palermo BYBOX 400 400 km",
                "3",
            ),
            ("ZCARD found", "3"),
            ("GEORADIUS Sicily 15 37 100 km STORE elsewhere", "1"),
            (
                "GEORADIUS Sicily 15 37 200 km STORE nowhere COUNT 2 STOREDIST d",
                "2",
            ),
            ("EXISTS nowhere d", "1"),
            ("GEORADIUSBYMEMBER Sicily Palermo 1 m STORE Sicily", "1"),
            (
                "GEOSEARCHSTORE found nothing FROMMEMBER x BYRADIUS 1 m",
                "0",
            ),
            ("EXISTS found", "0"),
        ]);
        w.assert_replays();
    }
}

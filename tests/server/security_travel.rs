//! Impossible travel: two sign-ins of one user from places that are too far apart.
//!
//! How: the test is a trusted proxy, so it chooses the client's address. It writes a small database of places itself,
//! in the [`MaxMind` DB format](https://maxmind.github.io/MaxMind-DB/).

use super::security_events::{events, found};
use crate::support::{PASSWORD, Server, User, unique};
use serde_json::{Value, json};
use std::net::Ipv4Addr;
use std::path::PathBuf;

/// Addresses of two cities, and of a network inside.
const LONDON: Ipv4Addr = Ipv4Addr::new(81, 2, 69, 160);
const BOSTON: Ipv4Addr = Ipv4Addr::new(89, 160, 20, 112);
const INSIDE: Ipv4Addr = Ipv4Addr::new(192, 168, 7, 7);

/// The longest text, map or list whose length fits into the control byte.
fn control(kind: u8, size: usize) -> u8 {
    assert!(size < 29);
    kind << 5 | size as u8
}

/// A value of the data section.
fn encoded(value: &Value) -> Vec<u8> {
    match value {
        Value::String(text) => [&[control(2, text.len())], text.as_bytes()].concat(),
        Value::Number(number) if number.is_f64() => {
            [&[control(3, 8)], number.as_f64().unwrap().to_be_bytes().as_slice()].concat()
        }
        Value::Number(number) => {
            [&[control(5, 2)], (number.as_u64().unwrap() as u16).to_be_bytes().as_slice()].concat()
        }
        Value::Array(list) => {
            let mut bytes = vec![control(0, list.len()), 11 - 7];
            bytes.extend(list.iter().flat_map(encoded));
            bytes
        }
        Value::Object(map) => {
            let mut bytes = vec![control(7, map.len())];
            for (key, value) in map {
                bytes.extend(encoded(&json!(key)));
                bytes.extend(match (key.as_str(), value.as_u64()) {
                    // Readers insist on the types of these: 32 and 64 bits.
                    ("node_count", Some(number)) => [&[control(6, 4)], &number.to_be_bytes()[4..]].concat(),
                    ("build_epoch", Some(number)) => [&[control(0, 8), 9 - 7], &number.to_be_bytes()[..]].concat(),
                    _ => encoded(value),
                });
            }
            bytes
        }
        other => panic!("{other} is not used"),
    }
}

/// A database with these rows, each for one address.
fn database(rows: &[(Ipv4Addr, Value)]) -> Vec<u8> {
    // A node is two records: where a 0 and where a 1 leads. `None` is nothing, `Err` a row.
    let mut nodes: Vec<[Option<Result<usize, usize>>; 2]> = vec![[None; 2]];
    let mut data = Vec::new();
    for (address, row) in rows {
        let (bits, mut node) = (u32::from(*address), 0);
        for at in (0..32).rev() {
            let side = (bits >> at & 1) as usize;
            if at == 0 {
                nodes[node][side] = Some(Err(data.len()));
            } else if let Some(Ok(next)) = nodes[node][side] {
                node = next;
            } else {
                nodes.push([None; 2]);
                nodes[node][side] = Some(Ok(nodes.len() - 1));
                node = nodes.len() - 1;
            }
        }
        data.extend(encoded(row));
    }
    let count = nodes.len();
    let mut file = Vec::new();
    for record in nodes.into_iter().flatten() {
        let record = match record {
            None => count,
            Some(Ok(node)) => node,
            Some(Err(row)) => count + 16 + row,
        };
        file.extend(&(record as u32).to_be_bytes()[1..]);
    }
    file.extend([0; 16]);
    file.extend(data);
    file.extend(b"\xAB\xCD\xEFMaxMind.com");
    file.extend(encoded(&json!({
        "node_count": count, "record_size": 24, "ip_version": 4, "database_type": "Test-City", "languages": ["en"],
        "binary_format_major_version": 2, "binary_format_minor_version": 0, "build_epoch": 1_767_225_600,
        "description": {"en": "Two cities"},
    })));
    file
}

fn city(country: &str, name: &str, latitude: f64, longitude: f64) -> Value {
    json!({"country": {"iso_code": country}, "city": {"names": {"en": name}},
           "location": {"latitude": latitude, "longitude": longitude, "accuracy_radius": 10}})
}

fn file_with(bytes: &[u8]) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{}.mmdb", unique("places")));
    std::fs::write(&path, bytes).unwrap();
    path
}

/// Posts as a client at this address. Returns what the server answers.
async fn post_from(server: &Server, address: Ipv4Addr, path: &str, body: &Value) -> Value {
    let request = reqwest::Client::new().post(format!("{}{path}", server.base_url)).json(body);
    let answer = request.header("x-forwarded-for", address.to_string()).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    answer.json().await.unwrap()
}

async fn sign_in(server: &Server, user: &User, address: Ipv4Addr) -> Value {
    post_from(server, address, "/auth/login", &json!({"login": user.name, "password": PASSWORD})).await
}

#[tokio::test]
async fn finds_a_user_at_two_places_and_nobody_inside() {
    let places = file_with(&database(&[
        (LONDON, city("GB", "London", 51.5, -0.1)),
        (BOSTON, city("US", "Boston", 42.4, -71.1)),
        (INSIDE, city("NZ", "Nowhere", -41.3, 174.8)),
    ]));
    let settings = [
        ("security.admin_user_ids", "1"),
        ("security.geoip_database", places.to_str().unwrap()),
        ("server.trusted_proxies", "127.0.0.1"),
        ("responses.impossible_travel", "challenge"),
    ];
    let server = Server::start(1, &settings);
    let (ann, bob, eve) = (server.register().await, server.register().await, server.register().await);
    // Bob is in a network of a company, then at home: the first address has no place.
    for address in [INSIDE, LONDON, LONDON, Ipv4Addr::LOCALHOST, Ipv4Addr::new(8, 8, 8, 8)] {
        sign_in(&server, &bob, address).await;
    }
    // Eve goes on in Boston with a session that she began in London.
    let session = sign_in(&server, &eve, LONDON).await;
    let refresh = json!({"refresh_token": session["refresh_token"]});
    let moved = post_from(&server, BOSTON, "/auth/refresh", &refresh).await;
    let travel = found(&server, &ann, "impossible_travel").await;
    assert_eq!((travel.len(), &travel[0]["user_id"]), (1, &json!(eve.id)), "{travel:?}");
    let (details, address) = (&travel[0]["details"], &travel[0]["ip_address"]);
    assert_eq!((&details["from"], &details["to"]), (&json!("GB London"), &json!("US Boston")), "{details}");
    assert_eq!((&travel[0]["severity"], address), (&json!("warning"), &json!(BOSTON.to_string())));
    assert_eq!(travel[0]["responses"][0]["response"], "challenge");
    let token = moved["access_token"].as_str().unwrap();
    assert_eq!(server.request(reqwest::Method::GET, "/users/me", Some(token), None).await.0, 401);
    let nobody: [Value; 0] = [];
    assert_eq!(events(&server, &ann, &format!("?user={}", bob.id)).await, nobody);
    std::fs::remove_file(places).unwrap();
}

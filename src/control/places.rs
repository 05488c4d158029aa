//! Where addresses are, by a file in the `MaxMind` DB format (`GeoLite2-City` and others): for the detector of
//! impossible travel. The file is read once, at start; nothing is sent anywhere.

use crate::audit::suspicion::{GeoPlace, is_public};
use crate::faults::warn_limited;
use maxminddb::Reader;
use serde::Deserialize;
use std::net::IpAddr;
use std::path::Path;

/// A larger file is no database of cities.
const FILE_BYTES_MAX: u64 = 1 << 30;

/// The database of places.
pub struct Places(Reader<Vec<u8>>);

/// What is read of a row. Rows of other databases lack some of it.
#[derive(Deserialize)]
struct Row<'a> {
    #[serde(borrow, default)]
    country: Country<'a>,
    #[serde(borrow, default)]
    city: City<'a>,
    location: Option<Location>,
}

#[derive(Deserialize, Default)]
struct Country<'a> {
    iso_code: Option<&'a str>,
}

#[derive(Deserialize, Default)]
struct City<'a> {
    #[serde(borrow, default)]
    names: Names<'a>,
}

#[derive(Deserialize, Default)]
struct Names<'a> {
    en: Option<&'a str>,
}

#[derive(Deserialize)]
struct Location {
    latitude: Option<f64>,
    longitude: Option<f64>,
    accuracy_radius: Option<u16>,
}

impl Places {
    /// Reads the file.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub fn open(path: &Path) -> Result<Self, String> {
        let bytes = std::fs::metadata(path).map_err(|error| error.to_string())?.len();
        if bytes > FILE_BYTES_MAX {
            return Err(format!("it has {bytes} bytes, and at most {FILE_BYTES_MAX} are read"));
        }
        let reader = Reader::open_readfile(path).map_err(|error| error.to_string())?;
        Ok(Self(reader))
    }

    /// The kind of database, as its file names it.
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.0.metadata().database_type
    }

    /// The place of an address, if it has one and the database knows its coordinates.
    #[must_use]
    pub fn of(&self, address: IpAddr) -> Option<GeoPlace> {
        if !is_public(address) {
            return None;
        }
        let row = self.0.lookup(address.to_canonical()).and_then(|found| found.decode::<Row<'_>>());
        let row = row.map_err(|error| warn_limited!("security.geoip_database has a row that cannot be read: {error}"));
        let Row { country, city, location } = row.ok()??;
        let location = location?;
        let (latitude, longitude) = (location.latitude?, location.longitude?);
        let names = [country.iso_code, city.names.en].into_iter().flatten();
        let is_on_earth = (-90.0..=90.0).contains(&latitude) && (-180.0..=180.0).contains(&longitude);
        is_on_earth.then(|| GeoPlace {
            latitude,
            longitude,
            radius_km: f64::from(location.accuracy_radius.unwrap_or(0)),
            name: names.collect::<Vec<_>>().join(" "),
        })
    }
}

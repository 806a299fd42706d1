//! Plain downloads, for `import URL` and `ADD URL`: one GET without any credentials.

use std::io::{self, Read};

use reqwest::Method;
use url::Url;

use crate::origin::follow;
use crate::response::BodyReader;
use crate::transport::Request;
use crate::{Client, Error, Result};

const MAX_REDIRECTS: u32 = 10;

impl Client {
    /// Opens the file at an http or https URL. A body that ends before its announced length is an error of reading.
    pub fn download(&self, url: &str) -> Result<Box<dyn Read + Send>> {
        let mut url =
            Url::parse(url).map_err(|error| Error::Refused { reason: format!("{url:?}: {error}") })?;
        for _ in 0..MAX_REDIRECTS {
            let response = self.transport.send(&Request::new(Method::GET, url.clone()), None)?;
            if matches!(response.status, 301 | 302 | 303 | 307 | 308) {
                let location = response.header("location").unwrap_or_default();
                url = follow(&response.url, location, self.transport.plain_http())?;
                continue;
            }
            let response = response.expect(&[200])?;
            let expected_bytes = response.content_length();
            return Ok(Box::new(Download { body: response.into_blob_body(), got_bytes: 0, expected_bytes }));
        }
        Err(Error::Refused { reason: format!("{url} redirects more than {MAX_REDIRECTS} times") })
    }
}

struct Download {
    body: BodyReader,
    got_bytes: u64,
    expected_bytes: Option<u64>,
}

impl Read for Download {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let expected_bytes = self.expected_bytes.unwrap_or(self.got_bytes);
        let count = self.body.read(buffer, self.got_bytes, expected_bytes).map_err(io::Error::other)?;
        self.got_bytes += count as u64;
        if count == 0 && self.expected_bytes.is_some_and(|expected| expected != self.got_bytes) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(count)
    }
}

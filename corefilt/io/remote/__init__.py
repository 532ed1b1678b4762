"""Files behind a URL: found, downloaded, uploaded."""

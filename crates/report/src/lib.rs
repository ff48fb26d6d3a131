//! Result files: CSV schemas.

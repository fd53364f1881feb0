//! What SQLite's errors mean for the books.

use wharf_store::StoreError;

/// An error within a statement or around it; becomes a [`StoreError`] at the door.
#[derive(Debug)]
pub(crate) enum DbError {
    Sql(sqlx::Error),
    Store(StoreError),
}

pub(crate) type Db<T> = Result<T, DbError>;

impl From<sqlx::Error> for DbError {
    fn from(error: sqlx::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<StoreError> for DbError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<DbError> for StoreError {
    fn from(error: DbError) -> Self {
        match error {
            DbError::Store(error) => error,
            DbError::Sql(error) => meaning(&error),
        }
    }
}

fn meaning(error: &sqlx::Error) -> StoreError {
    let sqlx::Error::Database(database) = error else {
        return match error {
            sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) | sqlx::Error::ColumnNotFound(_) => {
                StoreError::Corrupt(error.to_string())
            }
            _ => StoreError::Unavailable(error.to_string()),
        };
    };
    // The low byte of an extended result code is the primary one: https://www.sqlite.org/rescode.html
    let code = database.code().and_then(|c| c.parse::<i32>().ok()).unwrap_or(1);
    match code & 0xff {
        // BUSY, LOCKED, NOMEM, READONLY, INTERRUPT, IOERR, FULL, CANTOPEN, PROTOCOL, NOLFS
        5 | 6 | 7 | 8 | 9 | 10 | 13 | 14 | 15 | 22 => StoreError::Unavailable(database.message().to_owned()),
        19 if matches!(code, 2067 | 1555 | 2579) => {
            StoreError::Conflict(format!("it exists already: {}", database.message()))
        }
        _ => StoreError::Corrupt(database.message().to_owned()),
    }
}

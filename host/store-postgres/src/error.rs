//! What PostgreSQL's errors mean for the books.

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

/// By class of the code: <https://www.postgresql.org/docs/current/errcodes-appendix.html>
fn meaning(error: &sqlx::Error) -> StoreError {
    let sqlx::Error::Database(database) = error else {
        return match error {
            sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) | sqlx::Error::ColumnNotFound(_) => {
                StoreError::Corrupt(error.to_string())
            }
            _ => StoreError::Unavailable(error.to_string()),
        };
    };
    let code = database.code().unwrap_or_default().into_owned();
    let said = || format!("{} (PostgreSQL {code})", database.message());
    match code.get(..2).unwrap_or_default() {
        // A unique key is taken.
        "23" if code == "23505" => StoreError::Conflict(format!("it exists already: {}", database.message())),
        // Other constraints, data that does not fit, statements that the tables do not know.
        "22" | "23" | "42" => StoreError::Corrupt(said()),
        // Connection, no privilege to connect, read only, deadlock, resources, limits, operator intervention, system.
        _ => StoreError::Unavailable(said()),
    }
}

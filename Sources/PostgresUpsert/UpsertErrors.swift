import Postgres

/// The same error, with what it means for an upsert, where the server's words do not say it.
func explain<Row>(_ error: PostgresError, _ layout: TableLayout<Row>, _ shape: UpsertShape) -> PostgresError {
    error
}

/**
 * Tables, in steps that are taken once each, in order. Words and types are those that SQLite and
 * PostgreSQL share. A record is JSON; beside it stand the columns that the database itself decides by.
 * A step that was released never changes.
 */
export const MIGRATIONS: readonly string[] = [
  `
  CREATE TABLE disks (
    id TEXT PRIMARY KEY,
    image_id TEXT NOT NULL UNIQUE,
    in_work INTEGER NOT NULL,
    owner TEXT,
    record TEXT NOT NULL
  );
  CREATE TABLE transfers (
    id TEXT PRIMARY KEY,
    disk_id TEXT NOT NULL,
    is_final INTEGER NOT NULL,
    version BIGINT NOT NULL,
    owner TEXT,
    record TEXT NOT NULL
  );
  CREATE UNIQUE INDEX one_unfinished_transfer_per_disk ON transfers (disk_id) WHERE is_final = 0;
  CREATE TABLE instances (
    name TEXT PRIMARY KEY,
    token TEXT NOT NULL UNIQUE,
    expires BIGINT NOT NULL
  );
  `,
  'CREATE TABLE storage_domains (id TEXT PRIMARY KEY)',
]

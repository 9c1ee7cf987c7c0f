-- The sample of `octodb demo`: a small music catalogue (made up for this project) and everybody's playlists.
-- Rows with row_owner '*' are on every device; a playlist belongs to the user who made it.

CREATE TABLE artist (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL,
  row_owner
);

CREATE TABLE album (
  id INTEGER PRIMARY KEY,
  artist_id INTEGER NOT NULL REFERENCES artist (id),
  title TEXT NOT NULL,
  year INTEGER,
  row_owner
);

CREATE TABLE track (
  id INTEGER PRIMARY KEY,
  album_id INTEGER NOT NULL REFERENCES album (id),
  title TEXT NOT NULL,
  seconds INTEGER NOT NULL CHECK (seconds > 0),
  row_owner
);

CREATE INDEX track_album ON track (album_id);

CREATE TABLE playlist (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL,
  note TEXT,
  row_owner,
  UNIQUE (row_owner, name)
);

CREATE TABLE playlist_track (
  id INTEGER PRIMARY KEY,
  playlist_id INTEGER NOT NULL,
  track_id INTEGER NOT NULL,
  row_owner
);

CREATE VIEW track_list AS
  SELECT track.title AS track, artist.name AS artist, album.title AS album, track.seconds
  FROM track JOIN album ON album.id = track.album_id JOIN artist ON artist.id = album.artist_id;

INSERT INTO artist (id, name, row_owner) VALUES
  (1, 'The Lighthouse Keepers', '*'),
  (2, 'Marta Quill', '*'),
  (3, 'Eight Arms Orchestra', '*'),
  (4, 'Jón og Ægir', '*');

INSERT INTO album (id, artist_id, title, year, row_owner) VALUES
  (1, 1, 'Fog Signals', 2009, '*'),
  (2, 1, 'Lamp Oil', 2014, '*'),
  (3, 2, 'Letters to the Tide', 2018, '*'),
  (4, 3, 'Ink', 2021, '*'),
  (5, 4, 'Undir Yfirborði', 2023, '*');

INSERT INTO track (id, album_id, title, seconds, row_owner) VALUES
  (1, 1, 'First Light', 214, '*'),
  (2, 1, 'Two Short, One Long', 187, '*'),
  (3, 1, 'The Gallery Rail', 243, '*'),
  (4, 1, 'Relief Boat', 305, '*'),
  (5, 2, 'Wick', 172, '*'),
  (6, 2, 'A Hundred and Ten Steps', 268, '*'),
  (7, 2, 'Weather Coming In', 231, '*'),
  (8, 3, 'Dear Neap', 199, '*'),
  (9, 3, 'Dear Spring', 204, '*'),
  (10, 3, 'Postmark', 156, '*'),
  (11, 3, 'High Water, Half Past Six', 288, '*'),
  (12, 4, 'Overture for Suckers', 322, '*'),
  (13, 4, 'Three Hearts', 246, '*'),
  (14, 4, 'Jar, Opened from Inside', 278, '*'),
  (15, 4, 'Camouflage (Reprise)', 134, '*'),
  (16, 5, 'Þari', 221, '*'),
  (17, 5, 'Hafgola', 257, '*'),
  (18, 5, 'Kyrrt', 301, '*');

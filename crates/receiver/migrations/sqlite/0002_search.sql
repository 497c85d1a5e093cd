-- Texts by every three characters of them, so that languages without blanks are found too. They are in
-- lower case already.
CREATE VIRTUAL TABLE search USING fts5 (
    search_text,
    content = 'bodies',
    content_rowid = 'n',
    tokenize = 'trigram case_sensitive 1'
);

-- Bodies are only inserted and deleted, never changed.
CREATE TRIGGER bodies_inserted AFTER INSERT ON bodies BEGIN
    INSERT INTO search (rowid, search_text) VALUES (new.n, new.search_text);
END;

CREATE TRIGGER bodies_deleted AFTER DELETE ON bodies BEGIN
    INSERT INTO search (search, rowid, search_text) VALUES ('delete', old.n, old.search_text);
END;

-- The readers' connections have bitmaps of an index switched off (storage/connect.rs): a page is looked up by key. A search is
-- what they are for.
ALTER FUNCTION app_search(jsonb, tsquery, text) SET enable_bitmapscan = on;

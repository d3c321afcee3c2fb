COMMENT ON TABLE usage_records IS 'One row for each request. The embedded store keeps the same records in blocks.';

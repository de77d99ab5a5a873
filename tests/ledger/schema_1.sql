-- The ledger's schema 1, as its version made it; {bytes} is BLOB on SQLite, BYTEA on PostgreSQL.
CREATE TABLE accounts (
	campaign_id VARCHAR NOT NULL,
	day VARCHAR(10) NOT NULL,
	budget_nanos BIGINT NOT NULL,
	target_nanos BIGINT NOT NULL,
	moved_nanos BIGINT NOT NULL,
	spent_on_time_nanos BIGINT NOT NULL,
	late_nanos BIGINT NOT NULL,
	reserved_nanos BIGINT NOT NULL,
	overspend_nanos BIGINT NOT NULL,
	stopped BOOLEAN NOT NULL,
	stop_reason VARCHAR NOT NULL,
	suspense BOOLEAN NOT NULL,
	version BIGINT NOT NULL,
	pruned BOOLEAN NOT NULL,
	PRIMARY KEY (campaign_id, day),
	CONSTRAINT never_promised_twice CHECK (spent_on_time_nanos + reserved_nanos <= budget_nanos),
	CONSTRAINT covered_within_budget CHECK (spent_on_time_nanos + late_nanos + reserved_nanos <= budget_nanos),
	CONSTRAINT no_negative_money CHECK (budget_nanos >= 0 AND spent_on_time_nanos >= 0 AND late_nanos >= 0 AND reserved_nanos >= 0 AND overspend_nanos >= 0)
);
CREATE TABLE allowances (
	allowance_id VARCHAR(64) NOT NULL,
	bidder_id VARCHAR NOT NULL,
	incarnation VARCHAR NOT NULL,
	campaign_id VARCHAR NOT NULL,
	day VARCHAR(10) NOT NULL,
	arm VARCHAR NOT NULL,
	granted_nanos BIGINT NOT NULL,
	out_nanos BIGINT NOT NULL,
	headroom_nanos BIGINT NOT NULL,
	spent_nanos BIGINT NOT NULL,
	late_nanos BIGINT NOT NULL,
	returned_nanos BIGINT NOT NULL,
	state VARCHAR(8) NOT NULL,
	expires_at_ns BIGINT NOT NULL,
	closes_at_ns BIGINT NOT NULL,
	PRIMARY KEY (allowance_id),
	CONSTRAINT nothing_vanishes CHECK (granted_nanos = out_nanos + headroom_nanos + spent_nanos + late_nanos + returned_nanos),
	CONSTRAINT no_negative_part CHECK (out_nanos >= 0 AND headroom_nanos >= 0 AND spent_nanos >= 0 AND late_nanos >= 0 AND returned_nanos >= 0)
);
CREATE INDEX allowances_of_account ON allowances (campaign_id, day, state);
CREATE INDEX allowances_of_bidder ON allowances (bidder_id, state);
CREATE INDEX allowances_to_close ON allowances (state, closes_at_ns);
CREATE TABLE commands (
	event_id VARCHAR NOT NULL,
	at_ns BIGINT NOT NULL,
	PRIMARY KEY (event_id)
);
CREATE INDEX commands_by_time ON commands (at_ns);
CREATE TABLE findings (
	id BIGINT NOT NULL,
	kind VARCHAR(32) NOT NULL,
	ref VARCHAR NOT NULL,
	campaign_id VARCHAR NOT NULL,
	amount_nanos BIGINT NOT NULL,
	note VARCHAR NOT NULL,
	at_ns BIGINT NOT NULL,
	PRIMARY KEY (id)
);
CREATE TABLE incarnations (
	bidder_id VARCHAR NOT NULL,
	incarnation VARCHAR NOT NULL,
	current BOOLEAN NOT NULL,
	started_at_ns BIGINT NOT NULL,
	PRIMARY KEY (bidder_id, incarnation)
);
CREATE TABLE journal (
	entry BIGINT NOT NULL,
	leg INTEGER NOT NULL,
	kind VARCHAR(16) NOT NULL,
	campaign_id VARCHAR NOT NULL,
	day VARCHAR(10) NOT NULL,
	bucket VARCHAR(16) NOT NULL,
	ref VARCHAR NOT NULL,
	amount_nanos BIGINT NOT NULL,
	at_ns BIGINT NOT NULL,
	PRIMARY KEY (entry, leg)
);
CREATE INDEX journal_of_account ON journal (campaign_id, day);
CREATE TABLE lateness (
	campaign_id VARCHAR NOT NULL,
	settled_nanos BIGINT NOT NULL,
	late_nanos BIGINT NOT NULL,
	since_ns BIGINT NOT NULL,
	PRIMARY KEY (campaign_id)
);
CREATE TABLE outbox (
	sequence BIGINT NOT NULL,
	batch_id VARCHAR(64) NOT NULL,
	subject VARCHAR NOT NULL,
	payload {bytes} NOT NULL,
	PRIMARY KEY (sequence)
);
CREATE TABLE positions (
	stream VARCHAR(64) NOT NULL,
	sequence BIGINT NOT NULL,
	stored_at_ns BIGINT NOT NULL,
	PRIMARY KEY (stream)
);
CREATE TABLE settlements (
	bid_id VARCHAR NOT NULL,
	campaign_id VARCHAR NOT NULL,
	day VARCHAR(10) NOT NULL,
	allowance_id VARCHAR NOT NULL,
	exchange VARCHAR NOT NULL,
	line_item_id VARCHAR NOT NULL,
	creative_id VARCHAR NOT NULL,
	arm VARCHAR NOT NULL,
	on_time_nanos BIGINT NOT NULL,
	late_nanos BIGINT NOT NULL,
	overspend_nanos BIGINT NOT NULL,
	booked_at_ns BIGINT NOT NULL,
	PRIMARY KEY (bid_id)
);
CREATE INDEX settlements_of_account ON settlements (campaign_id, day);
CREATE TABLE splits (
	pool_id VARCHAR NOT NULL,
	epoch BIGINT NOT NULL,
	day VARCHAR(10) NOT NULL,
	at_ns BIGINT NOT NULL,
	PRIMARY KEY (pool_id)
);
CREATE TABLE writer (
	id INTEGER NOT NULL,
	schema_version INTEGER NOT NULL,
	entry_next BIGINT NOT NULL,
	outbox_next BIGINT NOT NULL,
	finding_next BIGINT NOT NULL,
	PRIMARY KEY (id)
);

-- +goose Up

-- Credentials of agents. Only their digests are stored. A row is never deleted: the list of
-- credentials shows who could fetch deliveries, and until when.
CREATE TABLE webhook.agent_credentials (
    id             text COLLATE "C" NOT NULL,
    endpoint       text COLLATE "C" NOT NULL,
    description    text COLLATE "C" NOT NULL,
    digest         bytea NOT NULL,
    lease_key      bytea NOT NULL,
    created_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    created_by     text COLLATE "C" NOT NULL,
    last_used_at   timestamptz,
    revoked_at     timestamptz,
    revoked_by     text COLLATE "C",
    revoked_reason text COLLATE "C",
    CONSTRAINT agent_credentials_pkey PRIMARY KEY (id),
    CONSTRAINT agent_credentials_id CHECK (octet_length(id) = 16 AND id ~ '^[0-9a-f]{16}$'),
    CONSTRAINT agent_credentials_keys CHECK (octet_length(digest) = 32 AND octet_length(lease_key) = 32),
    CONSTRAINT agent_credentials_length CHECK (octet_length(endpoint) BETWEEN 1 AND 200 AND octet_length(description) <= 1000 AND octet_length(created_by) BETWEEN 1 AND 1000
        AND octet_length(revoked_by) BETWEEN 1 AND 1000 AND octet_length(revoked_reason) BETWEEN 1 AND 1000),
    CONSTRAINT agent_credentials_revoked CHECK ((revoked_at IS NULL) = (revoked_by IS NULL) AND (revoked_at IS NULL) = (revoked_reason IS NULL))
);
COMMENT ON TABLE webhook.agent_credentials IS 'The credentials by which agents fetch the deliveries of one endpoint.';
COMMENT ON COLUMN webhook.agent_credentials.id IS 'The part of the credential that is not secret.';
COMMENT ON COLUMN webhook.agent_credentials.endpoint IS 'The endpoint whose deliveries the credential may fetch and acknowledge.';
COMMENT ON COLUMN webhook.agent_credentials.description IS 'What the operator wrote about its agent.';
COMMENT ON COLUMN webhook.agent_credentials.digest IS 'SHA-256 of the credential.';
COMMENT ON COLUMN webhook.agent_credentials.lease_key IS 'Authenticates the leases of this credential. Agents do not know it.';
COMMENT ON COLUMN webhook.agent_credentials.last_used_at IS 'When it was last used, to within a minute. Null: never.';
COMMENT ON COLUMN webhook.agent_credentials.revoked_at IS 'When it was revoked. Null: it is valid.';

-- A revocation is final, and what a credential is bound to does not change.
-- +goose StatementBegin
CREATE FUNCTION webhook.refuse_credential_change() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF TG_OP = 'UPDATE' THEN
        IF (OLD.revoked_at IS NULL OR NEW.revoked_at = OLD.revoked_at AND NEW.revoked_by = OLD.revoked_by AND NEW.revoked_reason = OLD.revoked_reason)
           AND to_jsonb(NEW) - 'last_used_at' - 'revoked_at' - 'revoked_by' - 'revoked_reason' = to_jsonb(OLD) - 'last_used_at' - 'revoked_at' - 'revoked_by' - 'revoked_reason'
        THEN
            RETURN NEW;
        END IF;
    END IF;
    RAISE EXCEPTION '% of webhook.agent_credentials refused: a credential can only be used and revoked, once', TG_OP USING ERRCODE = 'restrict_violation';
END
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION webhook.refuse_credential_change() IS 'Refuses to delete or change a credential, except for its last use and its revocation.';
REVOKE ALL ON FUNCTION webhook.refuse_credential_change() FROM PUBLIC;
CREATE TRIGGER refuse_change BEFORE UPDATE OR DELETE ON webhook.agent_credentials FOR EACH ROW EXECUTE FUNCTION webhook.refuse_credential_change();
CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON webhook.agent_credentials FOR EACH STATEMENT EXECUTE FUNCTION webhook.refuse_credential_change();
ALTER TABLE webhook.agent_credentials ENABLE ALWAYS TRIGGER refuse_change;
ALTER TABLE webhook.agent_credentials ENABLE ALWAYS TRIGGER refuse_truncate;

REVOKE ALL ON webhook.agent_credentials FROM PUBLIC;
GRANT SELECT, INSERT, UPDATE (last_used_at, revoked_at, revoked_by, revoked_reason) ON webhook.agent_credentials TO sallyport_writer;

-- +goose Down
DROP TABLE webhook.agent_credentials;
DROP FUNCTION webhook.refuse_credential_change();

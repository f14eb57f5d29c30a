-- +goose Up

-- One line for each decision. An end follows its decision within audit.MaxOpen
-- (package audit), so that it is looked up in one partition or two, however long
-- the log is; a hash join would read the ends of all months. DISTINCT ON proves to
-- the planner that there is one at most: a question that names no column of the
-- end does not look it up at all.
CREATE VIEW audit.all_decisions AS
SELECT d.time, d.decision_id,
       d.verdict, d.reason, d.rule, d.mode, d.would_deny,
       d.workspace, d.repository, d.project, d.deployment, d.deployment_type, d.branch,
       d.action, d.scheme, d.host, d.port, d.method, d.path, d.target_raw,
       d.status, d.message, CASE WHEN d.rule IS NOT NULL THEN coalesce(d.rules, ARRAY[d.rule]) END AS rules, d.revision, d.commit, d.repository_revision,
       d.upstream_proxy, coalesce(c.dialed_address, d.dialed_address) AS dialed_address, CASE WHEN d.dialed_address IS NOT NULL THEN coalesce(d.addresses, ARRAY[d.dialed_address]) END AS addresses,
       c.time AS closed_at, c.close_reason, c.bytes_sent, c.bytes_received, c.duration, c.upstream_status,
       d.workspace_uuid, d.repository_uuid, d.deployment_uuid, d.pipeline_uuid, d.step_uuid,
       d.issuer, d.credential_kind, d.client_address, d.listener,
       d.writer, d.writer_sequence
FROM audit.events d
LEFT JOIN LATERAL (
    SELECT DISTINCT ON (e.decision_id) e.decision_id, e.time, e.close_reason, e.bytes_sent, e.bytes_received, e.duration, e.upstream_status, e.dialed_address
    FROM audit.events e
    WHERE e.decision_id = d.decision_id AND e.kind IN ('tunnel_closed', 'request_closed')
      AND e.time > d.time - interval '1 day' AND e.time < d.time + interval '8 days'
) c ON c.decision_id = d.decision_id
WHERE d.kind = 'decision';

-- Probes of the self-test are not traffic of clients: a query that does not mention
-- them counts clients alone.
CREATE VIEW audit.decisions AS
SELECT * FROM audit.all_decisions WHERE credential_kind IS DISTINCT FROM 'self_test';

CREATE VIEW audit.denials AS
SELECT time, decision_id, reason, rule, message,
       workspace, repository, project, deployment, deployment_type, branch,
       action, scheme, host, port, method, path, target_raw,
       status, CASE WHEN rule IS NOT NULL THEN coalesce(rules, ARRAY[rule]) END AS rules, revision, commit, repository_revision, mode,
       workspace_uuid, repository_uuid, deployment_uuid, pipeline_uuid, step_uuid,
       issuer, credential_kind, client_address, listener, writer, writer_sequence
FROM audit.events
WHERE kind = 'decision' AND verdict = 'deny' AND credential_kind IS DISTINCT FROM 'self_test';

CREATE VIEW audit.would_deny AS
SELECT time, decision_id, reason, rule, message,
       workspace, repository, project, deployment, deployment_type, branch,
       action, scheme, host, port, method, path,
       status, CASE WHEN rule IS NOT NULL THEN coalesce(rules, ARRAY[rule]) END AS rules, revision, commit, repository_revision, dialed_address,
       workspace_uuid, repository_uuid, deployment_uuid, pipeline_uuid, step_uuid,
       issuer, credential_kind, client_address, listener, writer, writer_sequence
FROM audit.events
WHERE kind = 'decision' AND would_deny AND credential_kind IS DISTINCT FROM 'self_test';

-- What enforce mode would have closed. The server name is what the client sent.
CREATE VIEW audit.would_close AS
SELECT e.time, e.decision_id, e.close_reason, e.rule,
       e.workspace, e.repository, e.project, e.deployment, e.deployment_type, e.branch,
       e.action, e.scheme, e.host, e.port, e.attributes ->> 'server_name' AS server_name, e.attributes ->> 'further_decision' AS further_decision,
       e.revision, e.workspace_uuid, e.repository_uuid, e.deployment_uuid, e.pipeline_uuid, e.step_uuid,
       e.issuer, e.credential_kind, e.client_address, e.listener, e.writer, e.writer_sequence
FROM (SELECT *, convert_from(record, 'UTF8')::json -> 'attributes' AS attributes FROM audit.events
      WHERE kind = 'would_close' AND credential_kind IS DISTINCT FROM 'self_test') e;

-- A step states the result itself: nothing here is proof of what its network permits.
CREATE VIEW audit.network_checks AS
SELECT e.time, e.attributes ->> 'outcome' AS outcome, e.attributes ->> 'tests' AS tests, e.attributes ->> 'open_results' AS open_results,
       e.attributes ->> 'failed_results' AS failed_results,
       e.workspace, e.repository, e.project, e.deployment, e.deployment_type, e.branch,
       e.workspace_uuid, e.repository_uuid, e.deployment_uuid, e.pipeline_uuid, e.step_uuid,
       e.issuer, e.client_address, e.listener, e.writer, e.writer_sequence
FROM (SELECT *, convert_from(record, 'UTF8')::json -> 'attributes' AS attributes FROM audit.events WHERE kind = 'network_checked') e;

-- One line for each decision and exception that applied to it. What the exception
-- is was copied into the event: a policy's documents are not to be read in SQL.
CREATE VIEW audit.exception_uses AS
SELECT e.time, e.decision_id, e.verdict, e.would_deny, e.reason, e.rule, CASE WHEN e.rule IS NOT NULL THEN coalesce(e.rules, ARRAY[e.rule]) END AS rules,
       e.workspace, e.repository, e.deployment, e.deployment_type, e.branch, e.host, e.port,
       x.value ->> 'path' AS exception, x.value ->> 'owner' AS owner, x.value ->> 'ticket' AS ticket,
       array(SELECT json_array_elements_text(x.value -> 'hosts')) AS hosts, (x.value ->> 'until')::timestamptz AS until,
       e.revision, e.commit, e.workspace_uuid, e.repository_uuid, e.deployment_uuid, e.writer, e.writer_sequence
FROM audit.events e
CROSS JOIN LATERAL json_array_elements((convert_from(e.record, 'UTF8')::json -> 'attributes' ->> 'exceptions')::json) x
WHERE e.kind = 'decision' AND e.exceptions IS NOT NULL AND e.credential_kind IS DISTINCT FROM 'self_test';

CREATE VIEW audit.policy_changes AS
SELECT e.time, e.kind, e.revision, e.commit, e.reason, e.message,
       convert_from(e.record, 'UTF8')::json -> 'attributes' AS attributes,
       p.first_seen, e.writer, e.writer_sequence
FROM audit.events e
LEFT JOIN audit.policies p ON p.digest = e.revision
WHERE e.kind IN ('policy_loaded', 'policy_rejected', 'repository_policy_rejected');

-- One line for each commit that began to decide, and who approved its pull request.
-- Of several events about one commit the worst counts: all have to be approved.
CREATE VIEW audit.policy_approvals AS
SELECT l.activated_at, l.commit, l.revision, l.author, l.signer, l.activations,
       coalesce(a.outcome, 'not_recorded') AS outcome, a.pull_request, a.title, a.destination,
       a.pull_request_author, a.pull_request_author_uuid, a.approvers, a.merged_by, a.merged_by_uuid, a.commits, a.detail, a.recorded_at
FROM (SELECT e.commit, min(e.time) AS activated_at, min(e.revision) AS revision, count(*) AS activations,
             min(e.attributes ->> 'author') AS author, min(e.attributes ->> 'signer') AS signer
        FROM audit.policy_changes e
       WHERE e.kind = 'policy_loaded' AND e.commit IS NOT NULL
       GROUP BY e.commit) l
LEFT JOIN LATERAL (
    SELECT q.x ->> 'outcome' AS outcome, (q.x ->> 'pull_request')::bigint AS pull_request, q.x ->> 'title' AS title, q.x ->> 'destination' AS destination,
           q.x ->> 'author' AS pull_request_author, q.x ->> 'author_uuid' AS pull_request_author_uuid, (q.x ->> 'approvers')::json AS approvers,
           q.x ->> 'merged_by' AS merged_by, q.x ->> 'merged_by_uuid' AS merged_by_uuid, (q.x ->> 'commits')::bigint AS commits, q.message AS detail, q.time AS recorded_at
      FROM (SELECT p.time, p.message, convert_from(p.record, 'UTF8')::json -> 'attributes' AS x
              FROM audit.events p WHERE p.kind = 'policy_approval' AND p.commit = l.commit) q
     ORDER BY q.x ->> 'outcome' = 'approved', q.time LIMIT 1) a ON true;

CREATE VIEW audit.deployment_egress AS
SELECT workspace_uuid, repository_uuid, deployment_uuid,
       max(workspace) AS workspace, max(repository) AS repository,
       max(deployment) AS deployment, max(deployment_type) AS deployment_type,
       scheme, host, port,
       min(time) AS first_seen, max(time) AS last_seen,
       count(*) FILTER (WHERE verdict = 'allow' AND NOT would_deny) AS allowed,
       count(*) FILTER (WHERE would_deny) AS would_deny,
       count(*) FILTER (WHERE verdict = 'deny') AS denied,
       coalesce(sum(bytes_sent), 0)::bigint AS bytes_sent, coalesce(sum(bytes_received), 0)::bigint AS bytes_received,
       array_agg(DISTINCT rule) FILTER (WHERE rule IS NOT NULL) AS rules
FROM audit.decisions
WHERE deployment_uuid IS NOT NULL
GROUP BY workspace_uuid, repository_uuid, deployment_uuid, scheme, host, port;

CREATE VIEW audit.writers AS
SELECT writer,
       min(time) FILTER (WHERE kind = 'writer_started') AS started_at,
       max(time) FILTER (WHERE kind = 'writer_ended') AS ended_at,
       min(time) AS first_event, max(time) AS last_event,
       count(*) AS events, max(writer_sequence) AS last_sequence,
       max(writer_sequence) - count(*) AS missing
FROM audit.events
GROUP BY writer;

COMMENT ON VIEW audit.all_decisions IS 'Every decision, those about probes of the self-test included (credential_kind = self_test), with its outcome beside it once the tunnel or request is closed.';
COMMENT ON VIEW audit.decisions IS 'Every decision about a client, with its outcome beside it once the tunnel or request is closed. Probes of the self-test are in audit.all_decisions only.';
COMMENT ON VIEW audit.denials IS 'What was refused to clients. What passed only because of report mode is in audit.would_deny. Probes of the self-test are in audit.all_decisions only.';
COMMENT ON VIEW audit.would_deny IS 'What passed only because of report mode; reason and rule are those for which it would have been refused. Probes of the self-test are in audit.all_decisions only.';
COMMENT ON VIEW audit.would_close IS 'The tunnels that report mode let continue although their ClientHello was not as required; close_reason is what enforce mode closes them with.';
COMMENT ON COLUMN audit.would_close.server_name IS 'The host that the ClientHello names, where that is not the target; as the client sent it.';
COMMENT ON COLUMN audit.would_close.further_decision IS 'The decision_id of the decision about that host.';
COMMENT ON VIEW audit.network_checks IS 'What steps stated about their network: whether they can get out around the proxy. A step can state what is not true.';
COMMENT ON COLUMN audit.network_checks.outcome IS 'open if a test got out, error if a test has no result, otherwise blocked.';
COMMENT ON COLUMN audit.network_checks.tests IS 'The names of the tests, each once.';
COMMENT ON COLUMN audit.network_checks.open_results IS 'The tests that got out, with address and network. Null: none.';
COMMENT ON COLUMN audit.network_checks.failed_results IS 'The tests without a result, with address and network. Null: none.';
COMMENT ON VIEW audit.exception_uses IS 'Every decision about a client to which an exception of the policy applied, once for each such exception.';
COMMENT ON VIEW audit.policy_changes IS 'Every revision that began to decide, or was offered and refused, by each writer.';
COMMENT ON VIEW audit.policy_approvals IS 'Each commit that began to decide, and who approved the pull request that merged it, as Bitbucket reported afterwards.';
COMMENT ON VIEW audit.deployment_egress IS 'Where each deployment environment of each repository went or tried to go, and how much went there.';
COMMENT ON VIEW audit.writers IS 'Every process that wrote to the log: when it began and ended, and whether any of its numbers is missing.';

-- A view's column means what the column of audit.events by that name means.
-- +goose StatementBegin
DO $$
DECLARE
    c record;
BEGIN
    FOR c IN
        SELECT v.relname, a.attname, pg_catalog.col_description('audit.events'::regclass, e.attnum) AS description
        FROM pg_catalog.pg_class v
        JOIN pg_catalog.pg_attribute a ON a.attrelid = v.oid AND a.attnum > 0
        JOIN pg_catalog.pg_attribute e ON e.attrelid = 'audit.events'::regclass AND e.attname = a.attname AND e.attnum > 0
        WHERE v.relnamespace = 'audit'::regnamespace AND v.relkind = 'v'
    LOOP
        EXECUTE format('COMMENT ON COLUMN audit.%I.%I IS %L', c.relname, c.attname, c.description);
    END LOOP;
END
$$;
-- +goose StatementEnd
COMMENT ON COLUMN audit.all_decisions.closed_at IS 'When the tunnel or request ended. Null while it is open, and where nothing was let out.';
COMMENT ON COLUMN audit.decisions.closed_at IS 'When the tunnel or request ended. Null while it is open, and where nothing was let out.';
COMMENT ON COLUMN audit.exception_uses.exception IS 'Where the exception stands in the documents of that revision. Empty: a rule made it.';
COMMENT ON COLUMN audit.exception_uses.owner IS 'The owner, as the exception names them.';
COMMENT ON COLUMN audit.exception_uses.ticket IS 'Its ticket.';
COMMENT ON COLUMN audit.exception_uses.hosts IS 'Its hosts, as many as the event has room for.';
COMMENT ON COLUMN audit.exception_uses.until IS 'When it ends.';
COMMENT ON COLUMN audit.policy_changes.attributes IS 'What else is known of the change, as JSON.';
COMMENT ON COLUMN audit.policy_changes.first_seen IS 'When this content was first loaded anywhere.';
COMMENT ON COLUMN audit.policy_changes.revision IS 'The digest of the policy; its content is in audit.policies.';
COMMENT ON COLUMN audit.policy_approvals.activated_at IS 'When an instance first began to decide by it.';
COMMENT ON COLUMN audit.policy_approvals.author IS 'The author as the commit names them, self-declared.';
COMMENT ON COLUMN audit.policy_approvals.signer IS 'Whose key has signed the commit, as the server has verified. Null where signatures are not required.';
COMMENT ON COLUMN audit.policy_approvals.activations IS 'How many times an instance began to decide by it.';
COMMENT ON COLUMN audit.policy_approvals.outcome IS 'approved: by an account that wrote none of it. self_approved: by its authors alone. not_approved, no_pull_request, unknown. not_recorded: Bitbucket was not asked, or has not answered yet. Of several commits that came at once the worst counts.';
COMMENT ON COLUMN audit.policy_approvals.pull_request IS 'The number of the pull request that merged it.';
COMMENT ON COLUMN audit.policy_approvals.title IS 'Its title.';
COMMENT ON COLUMN audit.policy_approvals.destination IS 'The branch that it was merged into.';
COMMENT ON COLUMN audit.policy_approvals.pull_request_author IS 'Who opened it, by the name that the account had.';
COMMENT ON COLUMN audit.policy_approvals.pull_request_author_uuid IS 'The UUID of that account.';
COMMENT ON COLUMN audit.policy_approvals.approvers IS 'Whose approvals stood: uuid, name, at, and author: true where the account wrote a part of it, so that its approval does not count.';
COMMENT ON COLUMN audit.policy_approvals.merged_by IS 'Who merged it.';
COMMENT ON COLUMN audit.policy_approvals.merged_by_uuid IS 'The UUID of that account.';
COMMENT ON COLUMN audit.policy_approvals.commits IS 'How many commits came with it on the first-parent line, itself included. Each was asked about.';
COMMENT ON COLUMN audit.policy_approvals.detail IS 'Why the outcome is what it is.';
COMMENT ON COLUMN audit.policy_approvals.recorded_at IS 'When that was recorded.';
COMMENT ON COLUMN audit.deployment_egress.first_seen IS 'The time of the first decision.';
COMMENT ON COLUMN audit.deployment_egress.last_seen IS 'The time of the last decision.';
COMMENT ON COLUMN audit.deployment_egress.allowed IS 'How many decisions allowed it, without those of report mode.';
COMMENT ON COLUMN audit.deployment_egress.would_deny IS 'How many passed only because of report mode.';
COMMENT ON COLUMN audit.deployment_egress.denied IS 'How many decisions refused it.';
COMMENT ON COLUMN audit.deployment_egress.bytes_sent IS 'Bytes from the repository''s steps to the target, all together.';
COMMENT ON COLUMN audit.deployment_egress.bytes_received IS 'Bytes from the target, all together.';
COMMENT ON COLUMN audit.deployment_egress.rules IS 'The rules that decided, in the order of their names.';
COMMENT ON COLUMN audit.writers.started_at IS 'The time of its writer_started event.';
COMMENT ON COLUMN audit.writers.ended_at IS 'The time of its writer_ended event. Null: it still runs, or it did not end by itself.';
COMMENT ON COLUMN audit.writers.first_event IS 'The time of its earliest event.';
COMMENT ON COLUMN audit.writers.last_event IS 'The time of its latest event.';
COMMENT ON COLUMN audit.writers.events IS 'How many events it has here.';
COMMENT ON COLUMN audit.writers.last_sequence IS 'The highest number that it gave to an event.';
COMMENT ON COLUMN audit.writers.missing IS 'How many numbers up to that are not here. Anything but 0 is a finding.';

REVOKE ALL ON audit.all_decisions, audit.decisions, audit.denials, audit.would_deny, audit.would_close, audit.network_checks, audit.exception_uses, audit.policy_changes, audit.policy_approvals, audit.deployment_egress, audit.writers FROM PUBLIC;
GRANT SELECT ON audit.all_decisions, audit.decisions, audit.denials, audit.would_deny, audit.would_close, audit.network_checks, audit.exception_uses, audit.policy_changes, audit.policy_approvals, audit.deployment_egress, audit.writers
    TO sallyport_writer, sallyport_auditor;

-- +goose Down
DROP VIEW audit.writers, audit.deployment_egress, audit.policy_approvals, audit.policy_changes, audit.exception_uses, audit.network_checks, audit.would_close, audit.would_deny, audit.denials, audit.decisions, audit.all_decisions;

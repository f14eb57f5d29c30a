INSERT INTO audit.events (time, writer_sequence, port, status, upstream_status, would_deny, sent, received, duration, decision_id, workspace_uuid, repository_uuid, deployment_uuid, pipeline_uuid, step_uuid, writer, kind, issuer, credential_kind, workspace, repository, project, deployment, deployment_type, branch, client_address, listener, action, scheme, host, method, path, target_raw, verdict, mode, reason, rule, rules, message, revision, commit, via, address, addresses, cause, record) VALUES ($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12,$13,$14,$15,$16,$17,$18,$19,$20,$21,$22,$23,$24,$25,$26,$27,$28,$29,$30,$31,$32,$33,$34,$35,$36,$37,$38,$39,$40,$41,$42,$43,$44,$45,$46);
INSERT INTO audit.events (time, writer_sequence, writer, kind, record) VALUES ($1,$2,$3,$4,$5);
SELECT w.place, e.writer_sequence, e.record, e.time, e.kind, e.decision_id, e.writer, e.writer_sequence, e.issuer, e.credential_kind, e.workspace_uuid, e.repository_uuid, e.deployment_uuid, e.pipeline_uuid, e.step_uuid, e.workspace, e.repository, e.project, e.deployment, e.deployment_type, e.branch, e.client_address, e.listener, e.action, e.scheme, e.host, e.port, e.method, e.path, e.target_raw, e.verdict, e.mode, e.would_deny, e.reason, e.rule, e.rules, e.message, e.revision, e.commit, e.status, e.via, e.address, e.addresses, e.sent, e.received, e.duration, e.cause, e.upstream_status
		FROM unnest($1::text[], $2::bigint[], $3::bigint[]) WITH ORDINALITY AS w(writer, least, most, place)
		CROSS JOIN LATERAL (
			SELECT * FROM audit.events v
			WHERE v.writer = w.writer COLLATE "C" AND v.writer_sequence BETWEEN w.least AND w.most
			ORDER BY v.writer_sequence
		) e;
SELECT 1::bigint, e.writer_sequence, e.record, e.time, e.kind, e.decision_id, e.writer, e.writer_sequence, e.issuer, e.credential_kind, e.workspace_uuid, e.repository_uuid, e.deployment_uuid, e.pipeline_uuid, e.step_uuid, e.workspace, e.repository, e.project, e.deployment, e.deployment_type, e.branch, e.client_address, e.listener, e.action, e.scheme, e.host, e.port, e.method, e.path, e.target_raw, e.verdict, e.mode, e.would_deny, e.reason, e.rule, e.rules, e.message, e.revision, e.commit, e.status, e.via, e.address, e.addresses, e.sent, e.received, e.duration, e.cause, e.upstream_status
		FROM audit.events e
		WHERE e.writer = $1 AND e.writer_sequence BETWEEN $2 AND $3 AND (e.writer_sequence, e.time) > ($4::bigint, $5::timestamptz)
		ORDER BY e.writer_sequence, e.time LIMIT $6;
SELECT index, writer_sequence, writer, hash FROM audit.leaves WHERE index > $1 ORDER BY index LIMIT $2;
WITH RECURSIVE w AS (
			(SELECT writer FROM audit.events ORDER BY writer LIMIT 1)
			UNION ALL
			SELECT (SELECT e.writer FROM audit.events e WHERE e.writer > w.writer ORDER BY e.writer LIMIT 1) FROM w WHERE w.writer IS NOT NULL
		)
		SELECT w.writer, coalesce((SELECT max(l.writer_sequence) FROM audit.leaves l WHERE l.writer = w.writer), 0) FROM w WHERE w.writer IS NOT NULL;
WITH RECURSIVE w AS (
			(SELECT writer FROM audit.events ORDER BY writer LIMIT 1)
			UNION ALL
			SELECT (SELECT e.writer FROM audit.events e WHERE e.writer > w.writer ORDER BY e.writer LIMIT 1) FROM w WHERE w.writer IS NOT NULL
		)
		SELECT w.writer, coalesce(l.sealed, 0), coalesce(l.sealed, 0) >= e.writer_sequence AND (e.kind = 'writer_ended' OR e.time < now() - interval '25 hours')
		FROM w
		CROSS JOIN LATERAL (SELECT max(v.writer_sequence) AS sealed FROM audit.leaves v WHERE v.writer = w.writer) l
		CROSS JOIN LATERAL (SELECT v.writer_sequence, v.kind, v.time FROM audit.events v WHERE v.writer = w.writer ORDER BY v.writer_sequence DESC LIMIT 1) e
		WHERE w.writer IS NOT NULL;
SELECT DISTINCT writer FROM audit.events WHERE kind = 'writer_started' AND time > now() - interval '25 hours';
SELECT w.writer, coalesce((SELECT max(l.writer_sequence) FROM audit.leaves l WHERE l.writer = w.writer COLLATE "C"), 0)
		FROM unnest($1::text[]) AS w(writer);
SELECT w.writer, e.writer_sequence, e.kind, sha256('\x00'::bytea || e.record), CASE WHEN e.kind = 'signing_key' THEN e.record END
	FROM unnest($1::text[], $2::bigint[]) WITH ORDINALITY AS w(writer, sealed, place)
	CROSS JOIN LATERAL (
		SELECT v.writer_sequence, v.kind, v.record FROM audit.events v
		WHERE v.writer = w.writer COLLATE "C" AND v.writer_sequence > w.sealed
		ORDER BY v.writer_sequence, v.time LIMIT $3
	) e
	ORDER BY w.place, e.writer_sequence LIMIT $3;
SELECT w.writer, last.writer_sequence, last.time
	FROM unnest($1::text[]) AS w(writer)
	CROSS JOIN LATERAL (
		SELECT e.writer_sequence, e.time, e.kind FROM audit.events e
		WHERE e.writer = w.writer COLLATE "C" ORDER BY e.writer_sequence DESC LIMIT 1
	) last
	WHERE last.kind NOT IN ('writer_ended')
	  AND NOT EXISTS (SELECT FROM pg_stat_activity a WHERE a.datname = current_database() AND a.application_name = 'sallyport audit ' || w.writer)
	  AND NOT EXISTS (SELECT FROM audit.events e WHERE e.kind = 'writer_lost'
		AND convert_from(e.record, 'UTF8')::json -> 'attributes' ->> 'writer' = w.writer);
SELECT pg_try_advisory_xact_lock(hashtextextended('audit.seal', 0));
SELECT audit.ensure_partition($1::date);
SELECT writer_sequence, time, record FROM audit.events WHERE writer = $1 AND writer_sequence BETWEEN $2 AND $3;
INSERT INTO audit.checkpoints (size, time, root, edge, note) VALUES ($1, $2, $3, $4, $5);
INSERT INTO audit.leaves (index, writer_sequence, writer, hash) VALUES ($1, $2, $3, $4);
SELECT size, root, edge, note FROM audit.checkpoints ORDER BY size DESC LIMIT 1;
SELECT root FROM audit.checkpoints WHERE size = $1;
SELECT coalesce(max(index), -1) + 1 FROM audit.leaves;
SELECT e.record, l.index IS NOT NULL FROM audit.events e LEFT JOIN audit.leaves l ON l.writer = e.writer AND l.writer_sequence = e.writer_sequence WHERE e.kind = $1 ORDER BY l.index NULLS LAST, e.time;
SELECT size, time, root, edge, note FROM audit.checkpoints WHERE size > $1 AND (size <= $2 OR $3) ORDER BY size;
SELECT coalesce(max(version_id), 0) FROM sallyport.schema_version WHERE is_applied;
INSERT INTO audit.policies (digest, content) VALUES ($1, $2) ON CONFLICT (digest) DO NOTHING;
SELECT content FROM audit.policies WHERE digest = $1;

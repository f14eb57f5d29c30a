package reader

// The queries of [Steps]. $1 is the step's UUID, $2 the earliest time, $3 the workspace, $4
// the repository, $5 the issuer, $6 the forced close reasons, $7 the limit; in allowedSQL $6
// is the limit.
//
// The issuer, workspace and repository stand beside the step's UUID although
// that is unique: who could give a step another's UUID still sees nothing.

// stepSQL selects what was refused, closed, and let continue by report mode.
//
// The end of a tunnel has no step: the latest forced ends of all steps are read
// from an index that has few, and those of this step are kept. Counts of repeats are
// chosen as in audit.repeated_refusals.
const stepSQL = `
WITH refused AS (
    SELECT 'refused' AS entry, time, decision_id, action, host, port, target_raw, reason, rule, message, status, NULL AS close_reason, NULL::bigint AS bytes_sent, NULL::bigint AS bytes_received
      FROM audit.events
     WHERE step_uuid = $1 AND verdict = 'deny' AND kind = 'decision' AND time > $2
       AND workspace_uuid = $3 AND repository_uuid = $4 AND issuer = $5
     ORDER BY time DESC LIMIT $7
), would_close AS (
    SELECT 'would_close' AS entry, time, decision_id, action, host, port, target_raw, NULL AS reason, rule, message, NULL::integer AS status, close_reason, NULL::bigint AS bytes_sent, NULL::bigint AS bytes_received
      FROM audit.events
     WHERE step_uuid = $1 AND kind = 'would_close' AND time > $2
       AND workspace_uuid = $3 AND repository_uuid = $4 AND issuer = $5
     ORDER BY time DESC LIMIT $7
), ` + endedSQL + `, closed AS (
    SELECT 'closed' AS entry, e.time, e.decision_id, d.action, d.host, d.port, d.target_raw, NULL AS reason, coalesce(e.rule, d.rule) AS rule, e.message, NULL::integer AS status, e.close_reason, e.bytes_sent, e.bytes_received
      FROM ended e
      JOIN audit.events d ON d.decision_id = e.decision_id AND d.kind = 'decision' AND d.time > $2 - interval '1 day'
     WHERE d.step_uuid = $1 AND d.workspace_uuid = $3 AND d.repository_uuid = $4 AND d.issuer = $5
     ORDER BY e.time DESC LIMIT $7
), ` + repeatsSQL + `
SELECT u.*, r.count
  FROM (SELECT * FROM refused UNION ALL SELECT * FROM would_close UNION ALL SELECT * FROM closed ORDER BY time DESC LIMIT $7) u
  LEFT JOIN repeats r ON r.decision_id = u.decision_id AND u.entry = 'refused'
 ORDER BY u.time DESC`

const endedSQL = `ended AS (
    SELECT time, decision_id, rule, message, close_reason, bytes_sent, bytes_received
      FROM audit.events
     WHERE kind IN ('tunnel_closed', 'request_closed') AND time > $2 AND close_reason = ANY($6)
       AND close_reason NOT IN ('finished', 'client_closed', 'target_closed', 'client_error', 'target_error', 'http_request')
     ORDER BY time DESC LIMIT 10000
)`

const repeatsSQL = `repeats AS (
    SELECT c.decision_id, sum((c.attributes ->> 'count')::bigint)::bigint AS count
      FROM (SELECT DISTINCT ON (e.writer, e.decision_id, e.attributes ->> 'from') e.decision_id, e.attributes
              FROM (SELECT writer, writer_sequence, decision_id, convert_from(record, 'UTF8')::json -> 'attributes' AS attributes
                      FROM audit.events
                     WHERE step_uuid = $1 AND verdict = 'deny' AND kind = 'refusals_repeated' AND time > $2
                       AND workspace_uuid = $3 AND repository_uuid = $4 AND issuer = $5) e
             ORDER BY e.writer, e.decision_id, e.attributes ->> 'from', e.writer_sequence DESC) c
     WHERE c.attributes ->> 'count' ~ '^[0-9]{1,15}$'
     GROUP BY c.decision_id
)`

// latestSQL selects the latest decisions of the repository, and those of this step among
// them: the step has no index of its own for allowed requests.
const latestSQL = `latest AS (
    SELECT time, decision_id, action, host, port, reason, rule, message, verdict, would_deny, step_uuid, workspace_uuid, issuer
      FROM audit.events
     WHERE repository_uuid = $4 AND kind = 'decision' AND time > $2
     ORDER BY time DESC LIMIT 5000
), own AS (
    SELECT * FROM latest WHERE step_uuid = $1 AND workspace_uuid = $3 AND issuer = $5 AND verdict = 'allow'
)`

// allowedSQL selects the targets with allowed requests, each with its count and bytes.
const allowedSQL = `
WITH ` + latestSQL + `
SELECT CASE WHEN o.would_deny THEN 'would_deny' ELSE 'allowed' END, max(o.time) AS time, (array_agg(o.decision_id ORDER BY o.time DESC))[1], o.action, o.host, o.port, NULL::text,
       o.reason, o.rule, max(o.message), NULL::integer, NULL::text, sum(c.bytes_sent)::bigint, sum(c.bytes_received)::bigint, count(DISTINCT o.decision_id) - 1
  FROM own o
  LEFT JOIN audit.events c ON c.decision_id = o.decision_id AND c.kind IN ('tunnel_closed', 'request_closed') AND c.time > $2
 GROUP BY o.would_deny, o.action, o.host, o.port, o.reason, o.rule
 ORDER BY 2 DESC LIMIT $6`

// countsSQL counts the step's requests, refusals and closes.
const countsSQL = `
WITH ` + latestSQL + `, ` + endedSQL + `, ` + repeatsSQL + `
SELECT (SELECT count(*) FROM own), (SELECT count(*) FROM own WHERE would_deny),
       (SELECT count(*) FROM (SELECT FROM audit.events WHERE step_uuid = $1 AND verdict = 'deny' AND kind = 'decision' AND time > $2
           AND workspace_uuid = $3 AND repository_uuid = $4 AND issuer = $5 LIMIT 10000) d) + (SELECT coalesce(sum(count), 0) FROM repeats)::bigint,
       (SELECT count(*) FROM ended e WHERE EXISTS (SELECT FROM audit.events d WHERE d.decision_id = e.decision_id AND d.kind = 'decision' AND d.time > $2 - interval '1 day'
           AND d.step_uuid = $1 AND d.workspace_uuid = $3 AND d.repository_uuid = $4 AND d.issuer = $5)),
       (SELECT count(*) FROM (SELECT FROM audit.events WHERE step_uuid = $1 AND kind = 'would_close' AND time > $2
           AND workspace_uuid = $3 AND repository_uuid = $4 AND issuer = $5 LIMIT 10000) w),
       (SELECT count(*) FROM latest) >= 5000`

// Package postgres has what the writer, the sealer and the readers of the audit log in
// PostgreSQL share: the columns of an event in binary form, the record that follows from
// them, the leaves, the names of writers, and the schema.
package postgres

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// Column is a column of audit.events that copies a field of the record, and how its binary
// form is written as the record writes it.
type Column struct {
	Name   string
	Append func(b, value []byte) []byte
}

// RecordColumns are the columns in the order of the record's fields; see
// audit.Event.AppendRecord. record is not among them.
var RecordColumns = []Column{
	{"time", appendTime}, {"kind", appendQuoted}, {"decision_id", appendUUIDText}, {"writer", appendQuoted}, {"writer_sequence", AppendInteger},
	{"issuer", appendQuoted}, {"credential_kind", appendQuoted},
	{"workspace_uuid", appendUUIDText}, {"repository_uuid", appendUUIDText}, {"deployment_uuid", appendUUIDText}, {"pipeline_uuid", appendUUIDText}, {"step_uuid", appendUUIDText},
	{"workspace", appendQuoted}, {"repository", appendQuoted}, {"project", appendQuoted},
	{"deployment", appendQuoted}, {"deployment_type", appendQuoted}, {"branch", appendQuoted},
	{"client_address", appendAddress}, {"listener", appendQuoted},
	{"action", appendQuoted}, {"scheme", appendQuoted}, {"host", appendQuoted}, {"port", AppendInteger},
	{"method", appendQuoted}, {"path", appendQuoted}, {"target_raw", appendQuoted},
	{"verdict", appendQuoted}, {"mode", appendQuoted}, {"would_deny", appendTruth}, {"reason", appendQuoted}, {"rule", appendQuoted},
	{"rules", appendList(appendQuoted)}, {"exceptions", appendList(appendQuoted)}, {"message", appendQuoted}, {"revision", appendQuoted}, {"commit", appendQuoted}, {"repository_revision", appendQuoted},
	{"status", AppendInteger}, {"upstream_proxy", appendQuoted}, {"dialed_address", appendAddress}, {"addresses", appendList(appendAddress)},
	{"bytes_sent", AppendInteger}, {"bytes_received", AppendInteger}, {"duration", appendMicroseconds}, {"close_reason", appendQuoted}, {"upstream_status", AppendInteger},
}

// columnNames is the list for a SELECT, each with this before it.
func columnNames(prefix string) string {
	var b strings.Builder
	for i, c := range RecordColumns {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(prefix + c.Name)
	}
	return b.String()
}

// AppendColumns writes the columns of a row, in binary form, as a JSON object.
// A null is left out. What no record can hold makes JSON that differs from every
// record, or none.
func AppendColumns(b []byte, values [][]byte) []byte {
	b = append(b, '{')
	begin := len(b)
	for i, value := range values {
		if value == nil {
			continue
		}
		if len(b) > begin {
			b = append(b, ',')
		}
		b = append(b, '"')
		b = append(b, RecordColumns[i].Name...)
		b = append(b, '"', ':')
		b = RecordColumns[i].Append(b, value)
	}
	return append(b, '}')
}

func appendQuoted(b, value []byte) []byte {
	b = append(b, '"')
	if bytes.IndexByte(value, '"') < 0 && bytes.IndexByte(value, '\\') < 0 {
		b = append(b, value...)
		return append(b, '"')
	}
	for _, c := range value {
		if c == '"' || c == '\\' {
			b = append(b, '\\')
		}
		b = append(b, c)
	}
	return append(b, '"')
}

func appendUUIDText(b, value []byte) []byte {
	if len(value) != 16 {
		return append(b, "null"...)
	}
	var text [38]byte
	text[0], text[9], text[14], text[19], text[24], text[37] = '"', '-', '-', '-', '-', '"'
	hex.Encode(text[1:9], value[0:4])
	hex.Encode(text[10:14], value[4:6])
	hex.Encode(text[15:19], value[6:8])
	hex.Encode(text[20:24], value[8:10])
	hex.Encode(text[25:37], value[10:16])
	return append(b, text[:]...)
}

func AppendInteger(b, value []byte) []byte {
	switch len(value) {
	case 8:
		return strconv.AppendInt(b, int64(binary.BigEndian.Uint64(value)), 10)
	case 4:
		return strconv.AppendInt(b, int64(int32(binary.BigEndian.Uint32(value))), 10)
	default:
		return append(b, "null"...)
	}
}

func appendTruth(b, value []byte) []byte {
	return strconv.AppendBool(b, len(value) == 1 && value[0] != 0)
}

// appendTime writes what audit's records have: whole microseconds, in UTC.
func appendTime(b, value []byte) []byte {
	if len(value) != 8 {
		return append(b, "null"...)
	}
	t := time.UnixMicro(int64(binary.BigEndian.Uint64(value)) + Epoch).UTC()
	b = append(b, '"')
	b = t.AppendFormat(b, "2006-01-02T15:04:05.000000Z")
	return append(b, '"')
}

// appendMicroseconds writes an interval, which has no days and months.
func appendMicroseconds(b, value []byte) []byte {
	if len(value) != 16 || binary.BigEndian.Uint64(value[8:]) != 0 {
		return append(b, `"an interval with days"`...)
	}
	return strconv.AppendInt(b, int64(binary.BigEndian.Uint64(value)), 10)
}

// appendAddress writes an inet (PostgreSQL's network.c: family, bits, whether it
// is a cidr, length, address).
func appendAddress(b, value []byte) []byte {
	if len(value) < 4 {
		return append(b, "null"...)
	}
	address, ok := netip.AddrFromSlice(value[4:])
	if !ok {
		return append(b, "null"...)
	}
	b = append(b, '"')
	b = address.AppendTo(b)
	if int(value[1]) != address.BitLen() {
		b = append(b, '/')
		b = strconv.AppendInt(b, int64(value[1]), 10)
	}
	return append(b, '"')
}

// appendList writes an array of one dimension (PostgreSQL's arrayfuncs.c).
func appendList(element func(b, value []byte) []byte) func(b, value []byte) []byte {
	return func(b, value []byte) []byte {
		b = append(b, '[')
		if len(value) < 12 || binary.BigEndian.Uint32(value) == 0 {
			return append(b, ']')
		}
		rest := value[12+8*binary.BigEndian.Uint32(value):]
		for first := true; len(rest) >= 4; first = false {
			size := int32(binary.BigEndian.Uint32(rest))
			rest = rest[4:]
			if !first {
				b = append(b, ',')
			}
			if size < 0 {
				b = append(b, "null"...)
				continue
			}
			b = element(b, rest[:size])
			rest = rest[size:]
		}
		return append(b, ']')
	}
}

var errRow = errors.New("the database answered a row in another form than the query asked for")

// Int8 decodes a bigint in binary form.
func Int8(value []byte) (int64, error) {
	if len(value) != 8 {
		return 0, errRow
	}
	return int64(binary.BigEndian.Uint64(value)), nil
}

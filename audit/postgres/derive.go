package postgres

import (
	"context"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/audit"
)

// The record of a decision or an end is not stored: it follows from the columns, and
// from record_rest. audit.record (migration 00001) does in SQL what AppendRecordOf does
// here. The constraint events_record_follows refuses rows for which they would differ.

// usualRest is the rest that is stored as empty text.
const usualRest = `,"input_parts":{"kind":"pipeline_step"}`

// followsFromColumns reports whether the record of a normalised event is that of its
// columns. Events with exceptions are stored whole: a view reads them as JSON.
func followsFromColumns(e *audit.Event) bool {
	return (e.Kind == audit.KindDecision || e.IsClosing()) && len(e.Exceptions) == 0 &&
		hasOneText(e.ClientAddress) && hasOneText(e.DialedAddress) && !slices.ContainsFunc(e.Addresses, embedsIPv4)
}

// hasOneText reports whether Go and PostgreSQL write an address alike; absent: yes.
func hasOneText(a netip.Addr) bool {
	return !embedsIPv4(a) || a == netip.IPv6Unspecified() || a == netip.IPv6Loopback()
}

// embedded are the addresses that PostgreSQL writes as ::192.0.2.1.
var embedded = netip.MustParsePrefix("::/96")

func embedsIPv4(a netip.Addr) bool { return embedded.Contains(a) }

// appendRest appends the column record_rest of an event whose record follows.
func appendRest(b []byte, e *audit.Event) []byte {
	at := len(b)
	b = e.AppendRest(append(b, 0, 0, 0, 0))
	switch rest := b[at+4:]; {
	case len(rest) == 0:
		return AppendNull(b[:at])
	case string(rest) == usualRest:
		return append(b[:at], 0, 0, 0, 0)
	default: // without the comma
		b = b[:at+4+copy(rest, rest[1:])]
		return patchLength(b, at)
	}
}

// StoredColumns is the list for a SELECT that RecordIn takes, each with this before it.
func StoredColumns(prefix string) string {
	return prefix + "record, " + prefix + "record_rest, " + columnNames(prefix)
}

// recordHead is what a record begins with that follows from columns.
var recordHead = `{"version":` + strconv.Itoa(audit.RecordVersion) + `,`

// AppendRecordOf appends the record of a row: the stored one, or else that of the
// columns, which are in the form of AppendColumns.
func AppendRecordOf(b, stored, rest, columns []byte) []byte {
	if stored != nil {
		return append(b, stored...)
	}
	b = append(append(b, recordHead...), columns[1:len(columns)-1]...)
	switch {
	case rest == nil:
	case len(rest) == 0:
		b = append(b, usualRest...)
	default:
		b = append(append(b, ','), rest...)
	}
	return append(b, '}')
}

// recordOf is the record of the values of StoredColumns, which are in binary form.
func recordOf(values [][]byte) []byte {
	record, _ := RecordIn(nil, values)
	return record
}

// RecordIn returns the record of the values of StoredColumns, in binary form, and the
// buffer for the next call, in which the record lies.
func RecordIn(buffer []byte, values [][]byte) (record, after []byte) {
	buffer = AppendColumns(buffer[:0], values[2:])
	begin := len(buffer)
	buffer = AppendRecordOf(buffer, values[0], values[1], buffer)
	return buffer[begin:], buffer
}

// inTuple is where the columns of StoredColumns are in a tuple.
var inTuple = func() []int {
	list := []int{slices.Index(Columns, "record"), slices.Index(Columns, "record_rest")}
	for _, c := range RecordColumns {
		list = append(list, slices.Index(Columns, c.Name))
	}
	return list
}()

// RecordOfTuple is the record of a tuple.
func RecordOfTuple(tuple []byte) []byte {
	fields := TupleFields(make([][]byte, 0, len(Columns)), tuple)
	values := make([][]byte, len(inTuple))
	for i, at := range inTuple {
		values[i] = fields[at]
	}
	return recordOf(values)
}

// ReadRecords gives the number, the time and the record of the events of a writer from
// one number to another, in no order.
func ReadRecords(ctx context.Context, conn *pgx.Conn, writer string, first, last int64, each func(sequence int64, at time.Time, record []byte)) error {
	rows, err := conn.Query(ctx, `SELECT writer_sequence, `+StoredColumns("")+` FROM audit.events WHERE writer = $1 AND writer_sequence BETWEEN $2 AND $3`,
		pgx.QueryResultFormats{pgx.BinaryFormatCode}, writer, first, last)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		values := rows.RawValues()
		sequence, err := Int8(values[0])
		if err != nil {
			return err
		}
		micros, err := Int8(values[3]) // time is the first of the columns
		if err != nil {
			return err
		}
		each(sequence, time.UnixMicro(micros+Epoch).UTC(), recordOf(values[1:]))
	}
	return rows.Err()
}

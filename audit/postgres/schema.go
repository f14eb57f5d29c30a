package postgres

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/internal/database"
	"github.com/sallyport/sallyport/migrations"
)

// Schema is what the schemas audit, identity, sallyport and webhook are at one moment.
type Schema struct {
	Version int64 // of the migrations
	Server  int   // the major version of PostgreSQL
	// Objects has the SHA-256, in lower-case hexadecimal, of each object's
	// definition, owner and privileges, by the object's kind and name.
	Objects map[string]string
	// Expected is what this program installs; nil where that is not known, as for
	// another version of the schema or of PostgreSQL.
	Expected map[string]string
}

// DescribeSchema reads the catalogs, in a transaction of its caller, whose settings
// it changes. The query is [SchemaSQL].
func DescribeSchema(ctx context.Context, tx pgx.Tx, query string) (Schema, error) {
	s := Schema{Objects: map[string]string{}}
	if _, err := tx.Exec(ctx, SchemaSettings); err != nil {
		return s, err
	}
	var err error
	if s.Version, err = database.Version(ctx, tx); err != nil {
		return s, err
	}
	if err := tx.QueryRow(ctx, "SELECT current_setting('server_version_num')::int / 10000").Scan(&s.Server); err != nil {
		return s, err
	}
	rows, err := tx.Query(ctx, query)
	if err != nil {
		return s, err
	}
	partitions := map[string]map[string]string{}
	var object, definition, partition string
	if _, err := pgx.ForEachRow(rows, []any{&object, &definition, &partition}, func() error {
		sum := sha256.Sum256([]byte(definition))
		digest := hex.EncodeToString(sum[:])
		if partition == "" {
			s.Objects[object] = digest
			return nil
		}
		if partitions[partition] == nil {
			partitions[partition] = map[string]string{}
		}
		partitions[partition][object] = digest
		return nil
	}); err != nil {
		return s, err
	}
	if s.Version == migrations.Latest() {
		s.Expected = migrations.Schema(s.Server)
	}
	s.addPartitions(partitions)
	return s, nil
}

// addPartitions adds what most partitions have under the name events_*, and under
// its own name what a partition has that differs, or has not.
func (s *Schema) addPartitions(partitions map[string]map[string]string) {
	names := map[string]bool{}
	for _, objects := range partitions {
		for object := range objects {
			names[object] = true
		}
	}
	for object := range names {
		counts := map[string]int{}
		for _, objects := range partitions {
			counts[objects[object]]++ // "" where it is not there
		}
		usual := slices.MaxFunc(slices.Sorted(maps.Keys(counts)), func(a, b string) int {
			if want := s.Expected[object]; want != "" && (a == want || b == want) {
				return isTrue(a == want) - isTrue(b == want)
			}
			return counts[a] - counts[b]
		})
		if usual != "" {
			s.Objects[object] = usual
		}
		for partition, objects := range partitions {
			switch digest, found := objects[object], strings.Replace(object, "events_*", partition, 1); {
			case digest == usual:
			case digest == "":
				s.Objects[found] = "missing"
			default:
				s.Objects[found] = digest
			}
		}
	}
}

func isTrue(b bool) int {
	if b {
		return 1
	}
	return 0
}

// Digest is the SHA-256 over all objects and their definitions.
func (s Schema) Digest() string { return ObjectsDigest(s.Objects) }

func ObjectsDigest(objects map[string]string) string {
	h := sha256.New()
	for _, object := range slices.Sorted(maps.Keys(objects)) {
		fmt.Fprintf(h, "%s\t%s\n", object, objects[object])
	}
	return "sha256:" + hex.EncodeToString(h.Sum(nil))
}

// Differences are the objects that are not as this program installs them, each with
// the beginning of its digest, in their order. It is nil where nothing is expected.
func (s Schema) Differences() []string {
	if s.Expected == nil {
		return nil
	}
	var list []string
	for object, digest := range s.Objects {
		switch expected, known := s.Expected[object]; {
		case digest == "missing":
			list = append(list, "missing "+object)
		case !known:
			list = append(list, fmt.Sprintf("added %s [%.8s]", object, digest))
		case digest != expected:
			list = append(list, fmt.Sprintf("changed %s [%.8s]", object, digest))
		}
	}
	for object := range s.Expected {
		if _, there := s.Objects[object]; !there {
			list = append(list, "missing "+object)
		}
	}
	slices.Sort(list)
	return list
}

package pgtest

import "testing"

func TestStandbyIsPromoted(t *testing.T) {
	primary := Start(t, Options{NoSync: true})
	db := primary.New(t)
	standby := primary.Standby(t, "second", Options{NoSync: true})
	primary.SynchronousStandby(t, "second")
	conn := connect(t, db.URL(""))
	execute(t, conn, "set synchronous_commit = on")
	Eventually(t, "the standby is synchronous", func() bool {
		return count(t, conn, "select count(*) from pg_stat_replication where sync_state = 'sync'") == 1
	})
	execute(t, conn, "create table x (v int)") // is on the standby when it returns
	primary.SynchronousStandby(t, "")
	standby.Detach(t)
	execute(t, conn, "insert into x values (1)") // is not
	primary.Kill(t)
	standby.Promote(t)
	if n := count(t, connect(t, standby.URL(db.Name, "")), "select count(*) from x"); n != 0 {
		t.Errorf("%d rows that the standby never received", n)
	}
}

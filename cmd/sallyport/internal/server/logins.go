package server

import (
	"context"
	"errors"
	"time"

	"github.com/sallyport/sallyport/internal/database"
)

// checkLogins notes logins of this server that can change the log: with them, a fault of
// the server, or an attacker who has its login, could. It does not prevent the start.
func (s *server) checkLogins(ctx context.Context) {
	if s.config.Audit.Embedded {
		return // the server made the roles itself
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	urls := []string{s.databaseURL}
	if s.sealerURL != s.databaseURL {
		urls = append(urls, s.sealerURL)
	}
	var found []error
	for _, url := range urls {
		warning, err := database.PrivilegedLogin(ctx, url)
		switch {
		case err != nil:
			s.log.Warn("the privileges of a database login cannot be read", "error", err)
		case warning != "":
			s.log.Warn("database login", "warning", warning)
			found = append(found, errors.New(warning))
		}
	}
	s.logins = errors.Join(found...)
}

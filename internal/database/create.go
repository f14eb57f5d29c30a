package database

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// CreateDatabase makes a database in UTF-8 that the URL's login owns, unless it
// is there already. The URL names another database of the same server.
func CreateDatabase(ctx context.Context, url, name string) error {
	config, err := ParseConfig(url, "sallyport")
	if err != nil {
		return err
	}
	conn, err := Connect(ctx, config)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var there bool
	if err := conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", name).Scan(&there); err != nil {
		return Explain("look for database "+name, &config.Config, err)
	}
	if there {
		return nil
	}
	// CREATE DATABASE takes no parameters.
	sql := fmt.Sprintf("CREATE DATABASE %s ENCODING 'UTF8' TEMPLATE template0", pgx.Identifier{name}.Sanitize())
	_, err = conn.Exec(ctx, sql)
	return Explain("create database "+name, &config.Config, err)
}

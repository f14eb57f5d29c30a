// Package postgres stores accepted webhook deliveries for all instances, and reports the
// refreshes that they request.
package postgres

package ipranges

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// The networks of the list that send webhooks.
const (
	product   = "bitbucket"
	direction = "egress"
)

// The shortest prefixes that are accepted. A list with a wider network is refused: one
// wrong entry would accept most addresses.
const (
	minBits4 = 8
	minBits6 = 16
)

// Parse reads Atlassian's list and returns the networks from which Bitbucket opens
// connections, sorted, without duplicates. A list without such a network is an error, and
// so is one with a network that is malformed or wider than any that Atlassian publishes.
// Source: https://ip-ranges.atlassian.com/.
func Parse(document []byte) ([]netip.Prefix, error) {
	var list struct {
		Items []struct {
			CIDR      string   `json:"cidr"`
			Product   []string `json:"product"`
			Direction []string `json:"direction"`
		} `json:"items"`
	}
	if err := json.Unmarshal(document, &list); err != nil {
		return nil, errors.New("the list is not the documented JSON")
	}
	contains := func(values []string, want string) bool {
		return slices.ContainsFunc(values, func(v string) bool { return strings.EqualFold(v, want) })
	}
	var networks []netip.Prefix
	for i, item := range list.Items {
		if !contains(item.Product, product) || !contains(item.Direction, direction) {
			continue
		}
		network, err := netip.ParsePrefix(item.CIDR)
		if err != nil || network != network.Masked() || network.Addr().Is4In6() {
			return nil, fmt.Errorf("items[%d].cidr is not a network", i)
		}
		if minimum := minBits(network); network.Bits() < minimum {
			return nil, fmt.Errorf("items[%d].cidr is wider than /%d", i, minimum)
		}
		networks = append(networks, network)
	}
	if len(networks) == 0 {
		return nil, fmt.Errorf("the list has no network of the product %s with the direction %s", product, direction)
	}
	slices.SortFunc(networks, netip.Prefix.Compare)
	return slices.Compact(networks), nil
}

func minBits(n netip.Prefix) int {
	if n.Addr().Is4() {
		return minBits4
	}
	return minBits6
}

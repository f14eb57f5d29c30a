package dns

import (
	"container/list"
	"time"

	"github.com/sallyport/sallyport/internal/fair"
)

// cache keeps the results of the most recently used names. A repository that has its
// share of the entries, a quarter, displaces its own entries only: a step that looks up a
// thousand invented names costs other repositories none of theirs. It is not safe for
// concurrent use.
type cache struct {
	size    int
	entries map[string]*list.Element    // of *entry
	recent  *list.List                  // the most recently used first
	owners  map[fair.Subject]*list.List // the same by repository, of *entry
}

type entry struct {
	host    string
	result  result
	expires time.Time
	owner   fair.Subject // without a step: who looked it up
	owned   *list.Element
}

func newCache(size int) *cache {
	return &cache{size: size, entries: map[string]*list.Element{}, recent: list.New(), owners: map[fair.Subject]*list.List{}}
}

// get returns what is still to be believed.
func (c *cache) get(host string, now time.Time) (result, bool) {
	element := c.entries[host]
	if element == nil {
		return result{}, false
	}
	kept := element.Value.(*entry)
	if !now.Before(kept.expires) {
		c.remove(element)
		return result{}, false
	}
	c.recent.MoveToFront(element)
	c.owners[kept.owner].MoveToFront(kept.owned)
	return kept.result, true
}

// put keeps a result, at the cost of the least recently used one.
func (c *cache) put(host string, owner fair.Subject, found result, expires time.Time) {
	if element := c.entries[host]; element != nil {
		c.remove(element)
	}
	for len(c.entries) >= c.size {
		victim := c.recent.Back()
		if own := c.owners[owner]; own != nil && own.Len() >= max(1, c.size/4) {
			victim = c.entries[own.Back().Value.(*entry).host]
		}
		c.remove(victim)
	}
	own := c.owners[owner]
	if own == nil {
		own = list.New()
		c.owners[owner] = own
	}
	kept := &entry{host: host, result: found, expires: expires, owner: owner}
	kept.owned = own.PushFront(kept)
	c.entries[host] = c.recent.PushFront(kept)
}

func (c *cache) remove(element *list.Element) {
	gone := c.recent.Remove(element).(*entry)
	delete(c.entries, gone.host)
	own := c.owners[gone.owner]
	if own.Remove(gone.owned); own.Len() == 0 {
		delete(c.owners, gone.owner)
	}
}

package dns

import (
	"container/list"
	"time"
)

// cache keeps the results of the most recently used names. It is not safe for
// concurrent use.
type cache struct {
	size    int
	entries map[string]*list.Element // of *entry
	recent  *list.List               // the most recently used first
}

type entry struct {
	host    string
	result  result
	expires time.Time
}

func newCache(size int) *cache {
	return &cache{size: size, entries: map[string]*list.Element{}, recent: list.New()}
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
	return kept.result, true
}

// put keeps a result, at the cost of the least recently used one.
func (c *cache) put(host string, found result, expires time.Time) {
	if element := c.entries[host]; element != nil {
		c.remove(element)
	}
	for len(c.entries) >= c.size {
		c.remove(c.recent.Back())
	}
	c.entries[host] = c.recent.PushFront(&entry{host: host, result: found, expires: expires})
}

func (c *cache) remove(element *list.Element) {
	delete(c.entries, c.recent.Remove(element).(*entry).host)
}

package functions

import (
	"container/list"
	"sync"
)

// sized is a map that is bounded by the sizes of its values, and drops the least recently
// used. Safe for concurrent use.
type sized[K comparable, V any] struct {
	mu    sync.Mutex
	limit int
	used  int
	order *list.List // of *sizedItem[K, V], the latest first
	items map[K]*list.Element
}

type sizedItem[K comparable, V any] struct {
	key   K
	value V
	size  int
}

func newSized[K comparable, V any](limit int) *sized[K, V] {
	return &sized[K, V]{limit: limit, order: list.New(), items: map[K]*list.Element{}}
}

func (c *sized[K, V]) get(key K) (value V, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.items[key]
	if e == nil {
		return value, false
	}
	c.order.MoveToFront(e)
	return e.Value.(*sizedItem[K, V]).value, true
}

// insert adds a value that is not larger than the bound, and returns how many others it
// dropped.
func (c *sized[K, V]) insert(key K, value V, size int) (forgotten int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if size > c.limit {
		return 0
	}
	if e := c.items[key]; e != nil {
		c.drop(e)
	}
	for c.used+size > c.limit {
		c.drop(c.order.Back())
		forgotten++
	}
	c.items[key] = c.order.PushFront(&sizedItem[K, V]{key, value, size})
	c.used += size
	return forgotten
}

func (c *sized[K, V]) remove(key K) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.items[key]; e != nil {
		c.drop(e)
	}
}

// drop takes an item out. The lock is held.
func (c *sized[K, V]) drop(e *list.Element) {
	item := e.Value.(*sizedItem[K, V])
	c.order.Remove(e)
	delete(c.items, item.key)
	c.used -= item.size
}

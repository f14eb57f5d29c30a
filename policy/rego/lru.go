package rego

import (
	"container/list"
	"sync"
)

// lru is a bounded map that drops the least recently used key. Safe for concurrent use.
type lru[K comparable, V any] struct {
	mu    sync.Mutex
	limit int
	order *list.List // of *lruItem[K, V], the latest first
	items map[K]*list.Element
}

type lruItem[K comparable, V any] struct {
	key   K
	value V
}

func newLRU[K comparable, V any](limit int) *lru[K, V] {
	return &lru[K, V]{limit: limit, order: list.New(), items: map[K]*list.Element{}}
}

// get returns the value of a key, and makes it if there is none. make is called with the
// lock held and must be quick.
func (c *lru[K, V]) get(key K, make func() V) V {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.items[key]; e != nil {
		c.order.MoveToFront(e)
		return e.Value.(*lruItem[K, V]).value
	}
	item := &lruItem[K, V]{key, make()}
	c.items[key] = c.order.PushFront(item)
	if c.order.Len() > c.limit {
		last := c.order.Back()
		c.order.Remove(last)
		delete(c.items, last.Value.(*lruItem[K, V]).key)
	}
	return item.value
}

// peek returns the value of a key without using it.
func (c *lru[K, V]) peek(key K) (value V, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.items[key]
	if e == nil {
		return value, false
	}
	return e.Value.(*lruItem[K, V]).value, true
}

// forget removes a key if meant accepts its value.
func (c *lru[K, V]) forget(key K, meant func(V) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.items[key]; e != nil && meant(e.Value.(*lruItem[K, V]).value) {
		c.order.Remove(e)
		delete(c.items, key)
	}
}

// keys lists the keys, the most recently used first.
func (c *lru[K, V]) keys() []K {
	c.mu.Lock()
	defer c.mu.Unlock()
	keys := make([]K, 0, c.order.Len())
	for e := c.order.Front(); e != nil; e = e.Next() {
		keys = append(keys, e.Value.(*lruItem[K, V]).key)
	}
	return keys
}

package fair

// ring is a doubly linked list. container/list would do, with a conversion at
// each use.
type ring[T any] struct {
	first, last *element[T]
	len         int
}

type element[T any] struct {
	value      T
	prev, next *element[T]
}

func (r *ring[T]) push(v T) *element[T] {
	e := &element[T]{value: v}
	r.append(e)
	return e
}

func (r *ring[T]) append(e *element[T]) {
	e.prev, e.next = r.last, nil
	if r.last != nil {
		r.last.next = e
	} else {
		r.first = e
	}
	r.last = e
	r.len++
}

func (r *ring[T]) remove(e *element[T]) {
	if e.prev != nil {
		e.prev.next = e.next
	} else {
		r.first = e.next
	}
	if e.next != nil {
		e.next.prev = e.prev
	} else {
		r.last = e.prev
	}
	e.prev, e.next = nil, nil
	r.len--
}

func (r *ring[T]) toEnd(e *element[T]) {
	r.remove(e)
	r.append(e)
}

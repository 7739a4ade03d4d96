package state

import (
	"bytes"
	"container/list"
	"context"
	"sync"
	"time"
)

// Memory keeps conversations in the process, and loses them with it.
type Memory struct {
	limits Limits
	now    func() time.Time

	mu     sync.Mutex
	closed bool
	owners map[string]*memoryOwner
	recent list.List // of *memoryConv, the one used last in front
	leases leases
	stats  Stats
}

type memoryOwner struct {
	name   string
	convs  map[string]*memoryConv
	recent list.List // of *memoryConv
	bytes  int64
}

type memoryConv struct {
	owner      *memoryOwner
	name       string
	entries    map[entryKey][]byte
	bytes      int64
	used       time.Time
	all, their *list.Element
}

type entryKey struct {
	kind Kind
	name string
}

type leaseKey struct{ owner, name string }

type lease struct {
	holder string
	until  time.Time
}

var _ Store = (*Memory)(nil)

// NewMemory returns a store that is empty.
func NewMemory(l Limits) *Memory {
	return &Memory{limits: l, now: time.Now, owners: map[string]*memoryOwner{}, leases: leases{}}
}

// Read implements [Store].
func (m *Memory) Read(ctx context.Context, owner string, r Read) (Found, error) {
	f := Found{Turns: make([][]Entry, len(r.Convs)), Values: make([][]byte, len(r.Refs))}
	if err := ctx.Err(); err != nil {
		return f, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return f, ErrClosed
	}
	now := m.now()
	m.expire(now)
	o := m.owners[owner]
	if o == nil {
		return f, nil
	}
	for i, name := range r.Convs {
		c := o.convs[name]
		if c == nil {
			continue
		}
		m.touch(c, now)
		for k, v := range c.entries {
			if k.kind == Turn {
				f.Turns[i] = append(f.Turns[i], Entry{Ref{name, Turn, k.name}, bytes.Clone(v)})
			}
		}
		sortEntries(f.Turns[i])
	}
	for i, ref := range r.Refs {
		c := o.convs[ref.Conv]
		if c == nil {
			continue
		}
		if v, ok := c.entries[entryKey{ref.Kind, ref.Name}]; ok {
			m.touch(c, now)
			f.Values[i] = append([]byte{}, v...)
		}
	}
	return f, nil
}

// Save implements [Store].
func (m *Memory) Save(ctx context.Context, owner string, c Change) error {
	if err := c.check(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return ErrClosed
	}
	now := m.now()
	m.expire(now)
	o := m.owners[owner]
	for _, ref := range c.Need {
		if o == nil || o.convs[ref.Conv] == nil {
			return ErrGone
		}
		if _, ok := o.convs[ref.Conv].entries[entryKey{ref.Kind, ref.Name}]; !ok {
			return ErrGone
		}
	}
	// What it would make of the conversations, before anything changes.
	sizes := map[string]int64{}
	after := map[Ref]int64{} // of the entries that change
	size := func(conv string) int64 {
		if n, ok := sizes[conv]; ok {
			return n
		}
		if o != nil && o.convs[conv] != nil {
			return o.convs[conv].bytes
		}
		return 0
	}
	was := func(ref Ref) int64 {
		if n, ok := after[ref]; ok {
			return n
		}
		if o == nil || o.convs[ref.Conv] == nil {
			return 0
		}
		if v, ok := o.convs[ref.Conv].entries[entryKey{ref.Kind, ref.Name}]; ok {
			return entrySize(ref, v)
		}
		return 0
	}
	for _, ref := range c.Remove {
		if ref.Name == "" {
			sizes[ref.Conv] = 0
			if o != nil && o.convs[ref.Conv] != nil {
				for k := range o.convs[ref.Conv].entries {
					after[Ref{ref.Conv, k.kind, k.name}] = 0
				}
			}
			continue
		}
		sizes[ref.Conv] = size(ref.Conv) - was(ref)
		after[ref] = 0
	}
	for _, e := range c.Put {
		n := entrySize(e.Ref, e.Value)
		sizes[e.Conv] = size(e.Conv) + n - was(e.Ref)
		after[e.Ref] = n
	}
	var written int64
	for _, n := range sizes {
		if l := m.limits.MaxConversationBytes; l > 0 && n > l {
			return ErrTooLarge
		}
		written += n
	}
	if l := m.limits.MaxOwnerBytes; l > 0 && written > l {
		return ErrTooLarge
	}
	if l := m.limits.MaxBytes; l > 0 && written > l {
		return ErrTooLarge
	}

	for _, ref := range c.Remove {
		if o == nil || o.convs[ref.Conv] == nil {
			continue
		}
		v := o.convs[ref.Conv]
		if ref.Name == "" {
			clear(v.entries)
			m.resize(v, -v.bytes)
			continue
		}
		k := entryKey{ref.Kind, ref.Name}
		if value, ok := v.entries[k]; ok {
			m.resize(v, -entrySize(ref, value))
			delete(v.entries, k)
		}
	}
	for _, e := range c.Put {
		if o == nil {
			o = &memoryOwner{name: owner, convs: map[string]*memoryConv{}}
			m.owners[owner] = o
		}
		v := o.convs[e.Conv]
		if v == nil {
			v = &memoryConv{owner: o, name: e.Conv, entries: map[entryKey][]byte{}}
			o.convs[e.Conv] = v
			v.all, v.their = m.recent.PushFront(v), o.recent.PushFront(v)
			m.stats.Conversations++
		}
		k := entryKey{e.Kind, e.Name}
		if value, ok := v.entries[k]; ok {
			m.resize(v, -entrySize(e.Ref, value))
		}
		v.entries[k] = append([]byte{}, e.Value...)
		m.resize(v, entrySize(e.Ref, e.Value))
	}
	if o == nil {
		return nil
	}
	for name := range sizes {
		if v := o.convs[name]; v != nil {
			if len(v.entries) == 0 {
				m.drop(v)
				continue
			}
			m.touch(v, now)
		}
	}
	// Those that the change made are the ones used last, and alone they are within the bounds.
	for l := m.limits.MaxOwnerBytes; l > 0 && o.bytes > l; {
		m.drop(o.recent.Back().Value.(*memoryConv))
		m.stats.EvictedOwner++
	}
	for l := m.limits.MaxBytes; l > 0 && m.stats.Bytes > l; {
		m.drop(m.recent.Back().Value.(*memoryConv))
		m.stats.EvictedTotal++
	}
	return nil
}

func (m *Memory) resize(c *memoryConv, n int64) {
	c.bytes += n
	c.owner.bytes += n
	m.stats.Bytes += n
}

func (m *Memory) touch(c *memoryConv, now time.Time) {
	c.used = now
	m.recent.MoveToFront(c.all)
	c.owner.recent.MoveToFront(c.their)
}

func (m *Memory) drop(c *memoryConv) {
	m.resize(c, -c.bytes)
	m.recent.Remove(c.all)
	c.owner.recent.Remove(c.their)
	delete(c.owner.convs, c.name)
	if len(c.owner.convs) == 0 {
		delete(m.owners, c.owner.name)
	}
	m.stats.Conversations--
}

// expire drops what was not used for too long, at the price of what it drops.
func (m *Memory) expire(now time.Time) {
	for l := m.limits.TTL; l > 0; {
		last := m.recent.Back()
		if last == nil || now.Sub(last.Value.(*memoryConv).used) < l {
			return
		}
		m.drop(last.Value.(*memoryConv))
		m.stats.Expired++
	}
}

// Lease implements [Store].
func (m *Memory) Lease(ctx context.Context, owner, name, holder string, ttl time.Duration) (bool, error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return false, ErrClosed
	}
	return m.leases.take(leaseKey{owner, name}, holder, m.now(), ttl), nil
}

// Leased implements [Store].
func (m *Memory) Leased(ctx context.Context, owner, name string) (string, error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return "", ErrClosed
	}
	return m.leases.holder(leaseKey{owner, name}, m.now()), nil
}

// Release implements [Store].
func (m *Memory) Release(_ context.Context, owner, name, holder string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return ErrClosed
	}
	m.leases.release(leaseKey{owner, name}, holder)
	return nil
}

// Stats implements [Store].
func (m *Memory) Stats() Stats {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.stats
}

// Ping implements [Store].
func (m *Memory) Ping(context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return ErrClosed
	}
	return nil
}

// Close implements [Store].
func (m *Memory) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed, m.owners, m.leases = true, nil, nil
	m.recent.Init()
	return nil
}

func entrySize(r Ref, value []byte) int64 {
	return int64(len(r.Conv)+len(r.Name)+len(value)) + EntryOverhead
}

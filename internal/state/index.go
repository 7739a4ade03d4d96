package state

import (
	"cmp"
	"container/list"
	"slices"
	"time"
)

// index knows the conversations of a store that are kept elsewhere: their sizes, and in which order they were used.
type index struct {
	owners map[string]*indexOwner
	recent list.List // of *fileConv, the one used last in front
	bytes  int64
	stats  Stats
}

type indexOwner struct {
	convs  map[string]*fileConv
	recent list.List
	bytes  int64
}

type fileConv struct {
	owner, name string
	bytes       int64
	used        time.Time
	all, their  *list.Element
}

func (x *index) init() { x.owners = map[string]*indexOwner{} }

// fill takes conversations over, in any order.
func (x *index) fill(all []*fileConv) {
	slices.SortFunc(all, func(a, b *fileConv) int { return cmp.Compare(a.used.UnixNano(), b.used.UnixNano()) })
	for _, c := range all {
		x.add(c)
	}
}

func (x *index) add(c *fileConv) {
	o := x.owners[c.owner]
	if o == nil {
		o = &indexOwner{convs: map[string]*fileConv{}}
		x.owners[c.owner] = o
	}
	o.convs[c.name] = c
	c.all, c.their = x.recent.PushFront(c), o.recent.PushFront(c)
	o.bytes += c.bytes
	x.bytes += c.bytes
	x.stats.Conversations++
}

func (x *index) find(owner, conv string) *fileConv {
	if o := x.owners[owner]; o != nil {
		return o.convs[conv]
	}
	return nil
}

func (x *index) owned(owner string) int64 {
	if o := x.owners[owner]; o != nil {
		return o.bytes
	}
	return 0
}

// set notes what a conversation takes and that it was used; 0 is that there is none.
func (x *index) set(owner, conv string, n int64, now time.Time) {
	c := x.find(owner, conv)
	switch {
	case c == nil && n == 0:
	case c == nil:
		x.add(&fileConv{owner: owner, name: conv, bytes: n, used: now})
	case n == 0:
		o := x.owners[owner]
		o.bytes -= c.bytes
		x.bytes -= c.bytes
		o.recent.Remove(c.their)
		x.recent.Remove(c.all)
		delete(o.convs, conv)
		if len(o.convs) == 0 {
			delete(x.owners, owner)
		}
		x.stats.Conversations--
	default:
		x.owners[owner].bytes += n - c.bytes
		x.bytes += n - c.bytes
		c.bytes = n
		x.touch(c, now)
	}
}

func (x *index) touch(c *fileConv, now time.Time) {
	c.used = now
	x.recent.MoveToFront(c.all)
	x.owners[c.owner].recent.MoveToFront(c.their)
}

// unused are the conversations, those first that were not used for longest, as long as they are old.
func (x *index) unused(old func(*fileConv) bool) (all []*fileConv) {
	for e := x.recent.Back(); e != nil; e = e.Prev() {
		c := e.Value.(*fileConv)
		if !old(c) {
			break
		}
		all = append(all, c)
	}
	return all
}

// victims are the conversations of an owner, or with "" of all, that were not used for longest and make room for n bytes; those
// that are spared are not among them.
func (x *index) victims(owner string, n int64, spared func(*fileConv) bool) (all []*fileConv) {
	l := &x.recent
	if owner != "" {
		o := x.owners[owner]
		if o == nil {
			return nil
		}
		l = &o.recent
	}
	for e := l.Back(); e != nil && n > 0; e = e.Prev() {
		if c := e.Value.(*fileConv); !spared(c) {
			all = append(all, c)
			n -= c.bytes
		}
	}
	return all
}

func (x *index) snapshot() Stats {
	s := x.stats
	s.Bytes = x.bytes
	return s
}

// leases are those of one process.
type leases map[leaseKey]lease

// take gives a lease, or renews it; it reports false while another one has it.
func (l leases) take(k leaseKey, holder string, now time.Time, ttl time.Duration) bool {
	if has, ok := l[k]; ok && has.holder != holder && now.Before(has.until) {
		return false
	}
	for k, has := range l { // a few, of the calls that run
		if !now.Before(has.until) {
			delete(l, k)
		}
	}
	l[k] = lease{holder, now.Add(ttl)}
	return true
}

func (l leases) holder(k leaseKey, now time.Time) string {
	if has := l[k]; now.Before(has.until) {
		return has.holder
	}
	return ""
}

func (l leases) release(k leaseKey, holder string) {
	if l[k].holder == holder {
		delete(l, k)
	}
}

package proxy

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/dragoman-proxy/dragoman/translate"
)

const (
	// lockTime is how long a lease of the store lasts that nobody renews: what a proxy that died leaves behind.
	lockTime = 30 * time.Second
	// lockPause is how long a request waits before it asks again for a lease that another one has.
	lockPause = 20 * time.Millisecond
)

// lock takes the lease of a conversation, so that its turns go one by one, in all proxies that share a store. It
// waits for it as long as requests wait in line, and renews it until release.
func (c *call) lock(conv string) (release func(), e *translate.Error) {
	deadline := time.Now().Add(c.snap.conf.Limits.Queue.Wait)
	for {
		ok, e := c.tryLock(conv)
		if e != nil {
			return nil, e
		}
		if ok {
			return c.keepLock(conv), nil
		}
		if !time.Now().Before(deadline) {
			return nil, &translate.Error{Kind: translate.KindConflict, Status: 409, Code: "conversation_locked", RetryAfter: time.Second,
				Message: "Another request is at work on this conversation."}
		}
		if e := c.rest(lockPause); e != nil {
			return nil, e
		}
	}
}

// tryLock asks once for the lease of a conversation.
func (c *call) tryLock(conv string) (bool, *translate.Error) {
	ctx, stop := c.stateContext()
	defer stop()
	ok, err := c.s.state.Lease(ctx, c.owner(), conv, c.holder(), lockTime)
	if err != nil {
		c.s.stateFailed("failed", err)
		return false, errStateDown(err)
	}
	return ok, nil
}

// holder is the name under which the call has leases.
func (c *call) holder() string { return fmt.Sprintf("%s %p", c.seed, c) }

// keepLock renews a lease that the call has, until release.
func (c *call) keepLock(conv string) (release func()) {
	holder, owner, store, limit := c.holder(), c.owner(), c.s.state, c.snap.conf.State.Timeout
	var mu sync.Mutex
	over := false
	var timer *time.Timer
	renew := func() {
		mu.Lock()
		defer mu.Unlock()
		if over {
			return
		}
		ctx, stop := context.WithTimeout(context.Background(), limit)
		defer stop()
		_, _ = store.Lease(ctx, owner, conv, holder, lockTime) // one that fails is tried again before the lease is over
		timer.Reset(lockTime / 3)
	}
	mu.Lock()
	timer = time.AfterFunc(lockTime/3, renew)
	mu.Unlock()
	return func() {
		mu.Lock()
		done := over
		over = true
		mu.Unlock()
		if done {
			return
		}
		timer.Stop()
		ctx, stop := context.WithTimeout(context.Background(), limit)
		defer stop()
		_ = store.Release(ctx, owner, conv, holder) // else it ends by itself
	}
}

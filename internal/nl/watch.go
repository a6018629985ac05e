package nl

import (
	"context"
	"fmt"
	"sync"

	"github.com/vishvananda/netlink"
	wire "github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Watch announces on its channel that links, addresses, routes or permanent
// neighbours of the namespace have changed. Announcements are coalesced: one that was not yet
// read stands for all that came after it.
type Watch struct {
	Changed <-chan struct{}
	// Firewall announces changes of nftables, iptables-nft's among them. The
	// older iptables announces nothing.
	Firewall <-chan struct{}
	// Failed is closed when the kernel's messages were lost or the socket broke:
	// the watcher has to look at everything and watch anew.
	Failed <-chan struct{}
	wg     sync.WaitGroup
	cancel context.CancelFunc
}

// WatchChanges subscribes to the kernel's announcements in the caller's namespace.
func WatchChanges() (*Watch, error) {
	ctx, cancel := context.WithCancel(context.Background())
	changed, firewall, failed := make(chan struct{}, 1), make(chan struct{}, 1), make(chan struct{})
	w := &Watch{Changed: changed, Firewall: firewall, Failed: failed, cancel: cancel}
	var once sync.Once
	broken := func(error) { once.Do(func() { close(failed) }) }

	links := make(chan netlink.LinkUpdate, 64)
	addrs := make(chan netlink.AddrUpdate, 64)
	routes := make(chan netlink.RouteUpdate, 64)
	neighs := make(chan netlink.NeighUpdate, 64)
	err := netlink.LinkSubscribeWithOptions(links, ctx.Done(), netlink.LinkSubscribeOptions{ErrorCallback: broken})
	if err == nil {
		err = netlink.AddrSubscribeWithOptions(addrs, ctx.Done(), netlink.AddrSubscribeOptions{ErrorCallback: broken})
	}
	if err == nil {
		err = netlink.RouteSubscribeWithOptions(routes, ctx.Done(), netlink.RouteSubscribeOptions{ErrorCallback: broken})
	}
	if err == nil {
		err = netlink.NeighSubscribeWithOptions(neighs, ctx.Done(), netlink.NeighSubscribeOptions{ErrorCallback: broken})
	}
	var rules *wire.NetlinkSocket
	if err == nil {
		rules, err = wire.Subscribe(unix.NETLINK_NETFILTER, unix.NFNLGRP_NFTABLES)
	}
	if err != nil {
		cancel()
		return nil, fmt.Errorf("watch the kernel's network: %w", err)
	}
	follow(w, links, changed, nil)
	follow(w, addrs, changed, nil)
	follow(w, routes, changed, nil)
	// Learned neighbours come and go all the time.
	follow(w, neighs, changed, func(u netlink.NeighUpdate) bool { return u.State&netlink.NUD_PERMANENT == 0 })
	w.wg.Go(func() {
		<-ctx.Done()
		rules.Close()
	})
	w.wg.Go(func() {
		for {
			if _, _, err := rules.Receive(); err != nil {
				broken(err)
				return
			}
			announce(firewall)
		}
	})
	return w, nil
}

// announce leaves word, unless there is word already.
func announce(ch chan<- struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// follow reads a subscription until netlink closes it, so that its sender
// never blocks, also while the watch is closing. What skip says true to is not
// announced.
func follow[T any](w *Watch, updates <-chan T, changed chan<- struct{}, skip func(T) bool) {
	w.wg.Go(func() {
		for u := range updates {
			if skip != nil && skip(u) {
				continue
			}
			announce(changed)
		}
	})
}

// Close ends the watch and waits for its goroutines.
func (w *Watch) Close() {
	w.cancel()
	w.wg.Wait()
}

// Package wgproc runs WireGuard in userspace, for kernels that do not have it:
// as a process of its own for each device, which forwards on while the daemon is
// killed, restarted or upgraded. Run is that process; Succeed is one that takes
// the place of another of another build, without a packet lost; Process is how
// the daemon starts, renews and ends them. Keys and peers are none of its
// business: whoever configures a WireGuard device of the kernel configures this
// one by the same calls (wgctrl), over the socket where these programs are looked
// for.
package wgproc

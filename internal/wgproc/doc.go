// Package wgproc runs WireGuard in userspace, for kernels that do not have it:
// as a process of its own, which forwards on while the daemon is killed,
// restarted or upgraded. Run is that process; Process is how the daemon starts
// and ends it. Keys and peers are none of its business: whoever configures a
// WireGuard device of the kernel configures this one by the same calls
// (wgctrl), over the socket where these programs are looked for.
package wgproc

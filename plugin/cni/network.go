package cni

import (
	"strings"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"

	"github.com/weft-net/weft/api"
)

// GC and STATUS are of a whole network, and the same for both plugins.

func gc(read func([]byte) (*network, error)) func(*skel.CmdArgs) error {
	return func(args *skel.CmdArgs) error {
		n, err := read(args.StdinData)
		if err != nil {
			return err
		}
		req := api.CollectRequest{Network: n.Name}
		for _, v := range n.ValidAttachments {
			req.Valid = append(req.Valid, api.Endpoint{Network: n.Name, Container: v.ContainerID, Interface: v.IfName})
		}
		ctx, cancel := n.deadline(addTimeout)
		defer cancel()
		report, err := n.client().Collect(ctx, req)
		if err != nil {
			return explain(err)
		}
		if len(report.Failed) > 0 {
			return types.NewError(types.ErrInternal, "not all could be freed: "+strings.Join(report.Failed, "; "), "")
		}
		return nil
	}
}

func status(read func([]byte) (*network, error)) func(*skel.CmdArgs) error {
	return func(args *skel.CmdArgs) error {
		n, err := read(args.StdinData)
		if err != nil {
			return err
		}
		ctx, cancel := n.deadline(timeout)
		defer cancel()
		s, err := n.client().Status(ctx)
		if err != nil {
			return types.NewError(types.ErrPluginNotAvailable, err.Error(), "")
		}
		return judge(s)
	}
}

// judge tells whether a daemon in this state serves ADD. That one host does not
// answer is no reason why not: a runtime takes its own host out of service for
// what STATUS says.
func judge(s api.Status) error {
	var worst *types.Error
	for _, w := range s.Unready() {
		code := types.ErrPluginNotAvailable
		if w.Code == api.WarnKernel {
			code = types.ErrLimitedConnectivity
		}
		if worst == nil || code > worst.Code {
			worst = types.NewError(code, w.Text, w.Fix)
		}
	}
	if worst == nil {
		return nil // not a nil *types.Error, which would be an error
	}
	return worst
}

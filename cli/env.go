package cli

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// envName of a flag: state-dir is WEFT_STATE_DIR.
func envName(flag string) string {
	return "WEFT_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// fromEnvironment sets the flags that were not given from the environment.
func fromEnvironment(cmd *cobra.Command, env func(string) (string, bool)) error {
	var err error
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		value, ok := env(envName(f.Name))
		if !ok || f.Changed || err != nil || f.Name == "help" {
			return
		}
		if e := cmd.Flags().Set(f.Name, value); e != nil {
			err = usage("the environment's %s: %s", envName(f.Name), e)
		}
	})
	return err
}

// arguments wraps cobra's checks so that their errors are usage errors.
func arguments(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		err := check(cmd, args)
		if err == nil {
			return nil
		}
		hint := ""
		cmd.Flags().Visit(func(f *pflag.Flag) {
			if f.NoOptDefVal != "" && f.Value.Type() != "bool" && len(args) > 0 {
				hint = fmt.Sprintf("; if it is the value of --%s: --%s=%s", f.Name, f.Name, args[0])
			}
		})
		return usage("%s%s (usage: %s)", err, hint, cmd.UseLine())
	}
}

// wait is a flag's duration that has to be positive, once it is given.
type wait struct{ d *time.Duration }

func (w *wait) String() string {
	if w.d == nil || *w.d == 0 {
		return ""
	}
	return w.d.String()
}

func (w *wait) Set(s string) error {
	d, err := time.ParseDuration(s)
	if err != nil {
		return fmt.Errorf("%q is not a duration such as 30s", s)
	}
	if d <= 0 {
		return fmt.Errorf("%s is not positive", d)
	}
	*w.d = d
	return nil
}

func (w *wait) Type() string { return "duration" }

// choice is a flag that has one of a few values.
type choice struct {
	value *string
	of    []string
}

func (c *choice) String() string {
	if c.value == nil {
		return ""
	}
	return *c.value
}

func (c *choice) Set(s string) error {
	if !slices.Contains(c.of, s) {
		return fmt.Errorf("it is none of %s", strings.Join(c.of, ", "))
	}
	*c.value = s
	return nil
}

func (c *choice) Type() string { return "string" }

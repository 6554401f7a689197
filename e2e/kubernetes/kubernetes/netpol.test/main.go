// Command netpol.test runs the upstream NetworkPolicy specs, and links none of the
// other end-to-end specs of Kubernetes, which would more than double its size.
// Its name ends as ginkgo wants it of a suite that is built already.
package main

import (
	"flag"
	"fmt"
	"os"
	"testing"

	"github.com/onsi/ginkgo/v2"
	"github.com/onsi/gomega"
	"k8s.io/component-base/version"
	"k8s.io/kubernetes/test/e2e/framework"
	"k8s.io/kubernetes/test/e2e/framework/config"
	"k8s.io/kubernetes/test/e2e/framework/testfiles"
	e2etestingmanifests "k8s.io/kubernetes/test/e2e/testing-manifests"

	// The framework registers its flags and its hooks when these are linked.
	_ "k8s.io/component-base/logs/testinit"
	_ "k8s.io/kubernetes/test/e2e/feature"
	_ "k8s.io/kubernetes/test/e2e/framework/debug/init"
	_ "k8s.io/kubernetes/test/e2e/framework/metrics/init"
	_ "k8s.io/kubernetes/test/e2e/framework/node/init"

	// The specs themselves.
	_ "k8s.io/kubernetes/test/e2e/network/netpol"
)

func main() {
	// ginkgo passes flags of the testing package.
	testing.Init()
	config.CopyFlags(config.Flags, flag.CommandLine)
	framework.RegisterCommonFlags(flag.CommandLine)
	framework.RegisterClusterFlags(flag.CommandLine)
	flag.Parse()
	testfiles.AddFileSource(e2etestingmanifests.GetE2ETestingManifestsFS())
	framework.AfterReadingAllFlags(&framework.TestContext)
	fmt.Println("NetworkPolicy specs of Kubernetes", version.Get().GitVersion)

	gomega.RegisterFailHandler(framework.Fail)
	suite, reporter := framework.CreateGinkgoConfig()
	if !ginkgo.RunSpecs(program{}, "NetworkPolicy", suite, reporter) {
		os.Exit(1)
	}
}

// program stands where ginkgo expects a test: what RunSpecs returns says the same.
type program struct{}

func (program) Fail() {}

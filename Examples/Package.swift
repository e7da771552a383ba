// swift-tools-version: 6.2
import PackageDescription

// Views of one's own, each a program of a few lines: a package apart, as anybody's would be.
let package = Package(
  name: "grass-examples",
  dependencies: [.package(name: "grass", path: "..")],
  targets: ["filesystems", "hostnames", "ancestors"].map { name in
    .executableTarget(
      name: name, dependencies: [.product(name: "GrassKit", package: "grass")],
      swiftSettings: [
        .swiftLanguageMode(.v6), .enableUpcomingFeature("ExistentialAny"),
        .enableUpcomingFeature("MemberImportVisibility"), .treatAllWarnings(as: .error),
      ])
  }
)

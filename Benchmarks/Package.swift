// swift-tools-version: 6.2
import PackageDescription

// A package of its own, so that the main build stays light.
let package = Package(
  name: "grass-benchmarks",
  dependencies: [.package(name: "grass", path: "..")],
  targets: ["grass-bench", "link-bench"].map { name in
    .executableTarget(
      name: name, dependencies: [.product(name: "GrassKit", package: "grass")],
      swiftSettings: [
        .swiftLanguageMode(.v6), .enableUpcomingFeature("ExistentialAny"),
        .enableUpcomingFeature("MemberImportVisibility"), .treatAllWarnings(as: .error),
      ])
  }
)

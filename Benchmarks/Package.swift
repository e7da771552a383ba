// swift-tools-version: 6.2
import PackageDescription

let settings: [SwiftSetting] = [
  .swiftLanguageMode(.v6), .enableUpcomingFeature("ExistentialAny"),
  .enableUpcomingFeature("MemberImportVisibility"), .enableUpcomingFeature("InternalImportsByDefault"),
  .treatAllWarnings(as: .error),
]
let kit: Target.Dependency = .product(name: "GrassKit", package: "grass")
let device: Target.Dependency = .product(name: "GrassDevice", package: "grass")

// A package of its own, so that the main build stays light.
let package = Package(
  name: "grass-benchmarks",
  dependencies: [.package(name: "grass", path: "..")],
  targets: [
    .target(name: "Measuring", dependencies: [kit], swiftSettings: settings),
    .executableTarget(name: "grass-bench", dependencies: ["Measuring", kit], swiftSettings: settings),
    .executableTarget(name: "view-bench", dependencies: ["Measuring", kit], swiftSettings: settings),
    .executableTarget(name: "link-bench", dependencies: ["Measuring", kit], swiftSettings: settings),
    .executableTarget(name: "fleet-bench", dependencies: [kit, device], swiftSettings: settings),
  ]
)

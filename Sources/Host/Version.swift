/// The version of GRASS: one for the library and all its tools.
package enum Version {
  /// As `--version` prints it.
  ///
  /// A version that ends in `-dev` is not released yet.
  package static let current = "0.1.0-dev"
}

import CUDA
import Testing

/// What can be shown with and without a GPU.
@Suite struct DriverTests {
  @Test func saysWhatIsMissingOrListsWhatIsThere() {
    do throws(CUDAError) {
      for (index, gpu) in try GPU.all().enumerated() {
        #expect(gpu.number == index)
        #expect(gpu.capability >= 30)
        #expect(gpu.multiprocessors > 0)
        #expect(!gpu.name.isEmpty)
      }
    } catch {
      #expect("\(error)".contains("driver") || "\(error)".contains("CUDA_ERROR"))
    }
  }

  @Test func anUnknownNumberIsAnError() {
    #expect(throws: CUDAError.self) { try GPU.number(1_000_000) }
  }

  @Test func errorsCarryTheDriversOwnWords() {
    let error = CUDAError(
      .call("cuMemAlloc", code: 2, name: "CUDA_ERROR_OUT_OF_MEMORY", text: "out of memory"))
    #expect("\(error)" == "cuMemAlloc failed: CUDA_ERROR_OUT_OF_MEMORY (2), out of memory")
  }
}

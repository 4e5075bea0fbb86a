#include "aimerge/model/products.h"

#include <ATen/ATen.h>

#include <tuple>

namespace aimerge {

bool isForOneDnn([[maybe_unused]] const at::Tensor& x) {
#if defined(__x86_64__)
    static const bool isAmd =
        __builtin_cpu_is("amd") && __builtin_cpu_supports("avx512f") && at::globalContext().hasMKLDNN();
    return isAmd && x.is_cpu() && x.scalar_type() == at::kFloat;
#else
    return false;
#endif
}

at::Tensor transposedProduct(const at::Tensor& a, const at::Tensor& b) {
    if (!isForOneDnn(b)) return at::mm(a.t(), b);
    const at::Tensor unused = at::empty({0}, b.options());  // the weight, of which the dtype alone is looked at
    const at::Tensor right = b.is_mkldnn() ? b : b.to_mkldnn();
    return std::get<0>(at::mkldnn_linear_backward_weights(a.to_mkldnn(), right, unused, /*bias_defined=*/false)).to_dense();
}

}  // namespace aimerge

// Package kerneltest holds sets of kernels to the judge in package ref.
package kerneltest

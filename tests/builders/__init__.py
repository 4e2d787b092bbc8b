"""What tests begin with, a file each, named by what it gives."""

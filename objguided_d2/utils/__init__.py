"""What no step of the method owns: files, masks as run lengths, pictures, memory."""
